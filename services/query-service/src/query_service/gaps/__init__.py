"""Gaps, silences and the quality of a dataset."""
