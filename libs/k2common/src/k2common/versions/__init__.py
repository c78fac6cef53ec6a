"""Versions of tables, their tokens, and the uploads that they hide."""
