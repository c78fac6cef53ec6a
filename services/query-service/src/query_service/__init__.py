"""Answers REST queries, each on one version of the tables that the answer names."""
