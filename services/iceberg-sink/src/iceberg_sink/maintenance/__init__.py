"""Work on tables beside the commits, and its endpoints."""
