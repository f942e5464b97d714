"""Figures over nights: where a level changed, how surely, and what is only noise. Pure: points in, verdicts out."""
