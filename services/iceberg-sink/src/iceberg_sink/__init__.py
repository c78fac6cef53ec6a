"""Commits records, offsets and visibility to Iceberg tables."""
