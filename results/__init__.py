"""What purenoise reaches, one row per run, beside what was published: ``python -m results``."""
