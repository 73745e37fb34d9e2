"""The report: what it says of runs, and how it says it."""
