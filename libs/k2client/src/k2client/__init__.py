"""Python client of the K2 platform; talks HTTP only."""
