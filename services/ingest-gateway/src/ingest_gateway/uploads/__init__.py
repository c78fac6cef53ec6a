"""From a request to an upload, and what may be done to an upload afterwards."""
