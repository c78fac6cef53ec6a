"""The topics, subjects and tables of the platform, from one place."""
