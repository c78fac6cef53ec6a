"""Turns chunks of CSV into one Avro record per row."""
