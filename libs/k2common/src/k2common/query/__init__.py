"""Running of queries: admission, time limits, sandboxes, versions to read, metrics."""
