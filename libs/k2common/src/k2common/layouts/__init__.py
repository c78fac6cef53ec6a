"""How a vendor's file maps to a dataset: layouts as data, the cutter into chunks, the parser of a chunk."""
