"""Commits of one table's assigned partitions, and their announcement."""
