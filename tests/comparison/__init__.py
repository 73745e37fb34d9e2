"""Comparing runs: the numbers, what may be said of them, and which runs may stand together."""
