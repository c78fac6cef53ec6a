"""As-of joins of trades with quotes."""
