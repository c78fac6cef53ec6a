"""Builders and fakes for tests; production code never imports them."""
