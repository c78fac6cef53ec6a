"""Who may send which request: hosts, API keys, scopes, rates."""
