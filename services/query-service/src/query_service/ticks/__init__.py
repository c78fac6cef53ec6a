"""Trades and quotes as rows: ranges, pages, the newest per symbol."""
