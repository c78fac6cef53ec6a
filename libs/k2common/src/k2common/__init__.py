"""What every K2 service shares."""
