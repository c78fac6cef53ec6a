"""Asks the service in this container whether it is ready: `python -m k2common.probe`, exit code 0 when it is.

For images without an HTTP client. Nothing of the service is imported, so that a probe costs a start of
Python and no more.
"""

import os
import socket
import sys

SECONDS = 3.0


def ready(port: int) -> bool:
    """Whether /readyz on this machine's `port` answers 200; not in time is no."""
    request = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
            connection.sendall(request)
            return connection.recv(64).partition(b" ")[2].startswith(b"200 ")
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if ready(int(os.environ["K2_HTTP__PORT"])) else 1)
