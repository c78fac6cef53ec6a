"""Repair of damaged and missing data files from the archive."""
