"""Ports for stacks that run beside others."""

from __future__ import annotations

import random

from k2local.process import port_answers
from k2local.settings import HOST


def free_port(count: int = 1) -> int:
    """The first of `count` free ports in a row, below the range that outgoing connections take."""
    while True:
        base = random.randrange(20_000, 32_700 - count)  # noqa: S311 - not a secret
        if not any(port_answers(HOST, base + offset) for offset in range(count)):
            return base
