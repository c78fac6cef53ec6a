"""Messages that are no records: kept as rows, listed, redriven."""
