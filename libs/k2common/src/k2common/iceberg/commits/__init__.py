"""The one way to commit to a table, and the expiry of its snapshots."""
