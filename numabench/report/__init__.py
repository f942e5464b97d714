"""Text, JSON and pictures, made from analysis rows."""
