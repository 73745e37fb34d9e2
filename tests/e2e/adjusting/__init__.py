"""`purenoise adjust`: what the numbers must be, what is written, what is refused."""
