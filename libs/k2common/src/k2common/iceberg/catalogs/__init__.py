"""Iceberg catalogues, and the tables, schemas and columns in them."""
