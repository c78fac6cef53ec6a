"""Decodes records, sorts and writes them, and commits rows, offsets and visibility to Iceberg as one."""
