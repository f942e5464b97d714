"""The plan, the run and its trials, and the checks of what they are worth."""
