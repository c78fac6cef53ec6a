"""Parses chunks of CSV files into records: each row once, in file order per key, or a reject."""
