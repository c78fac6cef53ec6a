"""Which trades of a range count, and what the range holds."""
