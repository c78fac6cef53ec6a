"""The only door to the schema registry."""
