"""Bodies of requests: forms, packed and zipped files, digests, charsets, limits, the spool."""
