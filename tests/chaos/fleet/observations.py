"""What clients saw during a chaos run: statuses, and answers that break a promise."""

from __future__ import annotations

import threading
from collections import Counter

import httpx

ALLOWED_SERVER_ERRORS = {503, 504, 507}


class Observations:
    """Collects from several threads; `violations` must be empty at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.violations: list[str] = []

    def status(self, method: str, url: str, answer: httpx.Response) -> None:
        """Count an answer; a server error other than 503, 504 and 507 is a violation."""
        with self._lock:
            self.statuses[answer.status_code] += 1
            if answer.is_server_error and answer.status_code not in ALLOWED_SERVER_ERRORS:
                self.violations.append(f"{method} {url}: {answer.status_code} {answer.text[:300]}")

    def violation(self, text: str) -> None:
        """Note a broken promise."""
        with self._lock:
            self.violations.append(text)
