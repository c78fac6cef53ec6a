"""The one total order of rows, everywhere: pages, replays, joins, digests."""

TOTAL_ORDER = ("ts_event_ns", "sequence", "dataset", "venue", "symbol", "upload_id", "line")
"""Nulls come last. The sequence comes before the symbol, since some venues number a channel over all symbols;
upload and line make the order total."""
