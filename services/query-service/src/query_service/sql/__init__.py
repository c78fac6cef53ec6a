"""SQL of users over the tables of one version."""
