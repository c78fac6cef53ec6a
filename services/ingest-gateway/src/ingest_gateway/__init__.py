"""Takes CSV uploads over HTTP and publishes them as chunks."""
