"""What purenoise claims about speed, measured: ``python -m benchmarks``. Not in the wheel."""
