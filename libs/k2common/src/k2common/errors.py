"""The three failures and their three reactions.

    K2Error
    ├── RecordError      one record is bad: reject or dead letter, go on
    ├── TransientError   a neighbour is away or slow: back off, retry
    │   └── Fenced       another owner has taken over: drop the work, start from the committed state
    └── SetupError       the configuration or the deployment is wrong: stop with exit code 78

Anything else ends the process; its supervisor restarts it.
"""


class K2Error(Exception):
    """Every failure that this project raises on purpose."""


class RecordError(K2Error):
    """One record or one request is bad; others are not affected."""


class TransientError(K2Error):
    """A neighbour did not answer as it should; the same call may succeed later."""


class Fenced(TransientError):
    """Another owner has taken over; nothing of the failed unit of work was written by this one."""


class SetupError(K2Error):
    """The process cannot run as configured; a restart would not help."""
