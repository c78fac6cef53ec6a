"""From a row back to its line."""
