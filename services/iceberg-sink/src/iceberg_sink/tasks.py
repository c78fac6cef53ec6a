"""The kinds of work on tables beside the commits."""

from enum import StrEnum


class Task(StrEnum):
    """One kind of work; its commands and metrics have this name."""

    COMPACT = "compact"
    EXPIRE = "expire"
    PURGE = "purge"
    COLLECT = "collect"
    SCRUB = "scrub"
