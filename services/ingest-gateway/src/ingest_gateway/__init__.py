"""Takes CSV files over HTTP, publishes them as chunks, and says what became of every row."""
