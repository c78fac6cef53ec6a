"""Logs are off: a stream that is cut logs its error, and to draw each traceback takes a second."""

from collections.abc import Iterator
from logging import CRITICAL

import pytest
import structlog


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    yield
    structlog.reset_defaults()
