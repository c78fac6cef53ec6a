"""Datasets, versions and snapshots."""
