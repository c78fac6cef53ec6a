"""Batches of rows as columns: what is computed on them without a Python object per row."""
