"""Streams a range of the tables in one total order."""
