"""Bars of a range: boundaries, aggregation, adjustment."""
