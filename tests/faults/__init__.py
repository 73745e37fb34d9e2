"""The fault bench: what becomes of a run that is killed, damaged, or has no room."""
