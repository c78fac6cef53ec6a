"""A Python client of the K2 market data platform; it talks HTTP and nothing else."""

from k2client.client import Client
from k2client.errors import K2HttpError

__all__ = ["Client", "K2HttpError"]
