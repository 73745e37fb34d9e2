"""Comparisons: methods x seeds planned, trained by workers, understood."""
