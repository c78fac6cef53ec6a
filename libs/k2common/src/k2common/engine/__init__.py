"""DuckDB over the files of a version; only this package knows it."""
