"""Version documents of a table, and the files of hidden uploads that they name."""
