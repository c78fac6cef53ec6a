"""Tags: names for tokens over several tables."""
