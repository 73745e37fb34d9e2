"""Data sets, all turned into one type (:mod:`purenoise.data.types`)."""
