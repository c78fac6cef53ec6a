"""The three failures and their three reactions.

    K2Error
    ├── RecordError      one record is bad: reject or dead letter, go on
    ├── TransientError   a dependency is unavailable or slow: back off, retry
    │   ├── Fenced       another owner has taken over: drop the work, start from the committed state
    │   └── DataFault    a file of a table is damaged or missing: refuse the answer until it is repaired
    └── SetupError       the configuration or the deployment is wrong: stop with exit code 78

Anything else ends the process; its supervisor restarts it.
"""


class K2Error(Exception):
    """Every failure that this project raises on purpose."""


class RecordError(K2Error):
    """One record or one request is bad; others are not affected."""


class TransientError(K2Error):
    """A dependency did not answer as it should; the same call may succeed later."""


class Fenced(TransientError):
    """Another owner has taken over; nothing of the failed unit of work was written by this one."""


class DataFault(TransientError):
    """A file of `table`, or of the archive, cannot be used until it is repaired.

    The text names table and version and is fit for a client; `path` is for logs alone.
    """

    code = "DATA_FAULT"
    kind = "unusable"

    def __init__(self, table: str, *, path: str, version: int | None = None) -> None:
        named = table if version is None else f"{table}@{version}"
        super().__init__(f"{named}: a stored file is {self.kind}; it has to be repaired")
        self.table = table
        self.version = version
        self.path = path

    def at(self, version: int) -> "DataFault":
        """Return the same fault as met by a reader of `version`."""
        return type(self)(self.table, path=self.path, version=version)


class DataDamaged(DataFault):
    """The bytes of the file are not those that were written."""

    code = "DATA_DAMAGED"
    kind = "damaged"


class DataMissing(DataFault):
    """The table names a file that is not there."""

    code = "DATA_MISSING"
    kind = "missing"


class SetupError(K2Error):
    """The process cannot run as configured; a restart would not help."""
