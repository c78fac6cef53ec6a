"""Tables, their versions and the one way to commit; only this package knows pyiceberg."""
