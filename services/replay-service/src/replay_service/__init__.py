"""Streams a range of one version in the one total order, with a digest that any replay of it repeats."""
