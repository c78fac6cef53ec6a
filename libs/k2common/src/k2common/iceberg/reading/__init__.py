"""Readers of a version: from `as_of` to the files and rows that it shows."""
