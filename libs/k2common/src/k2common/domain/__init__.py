"""Market-data rules without I/O."""
