"""Answers REST queries on one version of the tables."""
