"""Every error that Tamis raises on purpose.

    TamisError
    ├── DataError             a file or a row of the user's data cannot be used
    ├── FetchError            a public data set could not be fetched from any source
    ├── TrainingError         the data is readable but a model cannot be made of it
    ├── ArtifactError         a model folder is missing, broken or busy
    ├── InputError            a text to be classified cannot be accepted
    │   ├── UnknownModelError       no such model, version or alias
    │   └── ModelUnavailableError   a model that cannot be loaded
    ├── OverloadedError       more texts wait for the model than it can classify in time
    ├── StoreError            the call log or the prediction cache cannot be used now
    ├── SettingsError         an environment variable or a `.env` line is wrong
    └── MissingExtraError     the command needs a part of Tamis that is not installed

The message is one line: cause, then file or field, then remedy. It is independent of HTTP and exit codes,
which `tamis.service` and `tamis.cli` add.
"""

from __future__ import annotations


class TamisError(Exception):
    """The base of all errors that a caller of Tamis may want to catch."""


class DataError(TamisError):
    """A data file that cannot be used: with file, row and column as far as known."""

    def __init__(
        self, problem: str, *, file: object = None, row: int | None = None, column: str | None = None
    ):
        self.problem, self.file, self.row, self.column = problem, file, row, column
        where = [
            str(file) if file is not None else "",
            f"row {row}" if row is not None else "",
            f"column {column!r}" if column is not None else "",
        ]
        super().__init__(": ".join(filter(None, [", ".join(filter(None, where)), problem])))


class FetchError(TamisError):
    """No source of a public data set could be reached, or none had the known contents."""


class TrainingError(TamisError):
    """A model cannot be trained from this data with these settings."""


class ArtifactError(TamisError):
    """A model folder that is missing, broken, of another format, or in use by another process."""


class InputError(TamisError):
    """A text that cannot be classified; `field` is its path in the request."""

    def __init__(self, code: str, message: str, *, field: str):
        self.code, self.field = code, field
        super().__init__(message)


class UnknownModelError(InputError):
    """A model, version or alias that does not exist."""

    def __init__(self, message: str, *, field: str):
        super().__init__("unknown_model", message, field=field)


class ModelUnavailableError(InputError):
    """A model that exists and cannot be loaded; the reason is in the log and in GET /models."""

    def __init__(self, name: str):
        message = "the model cannot be loaded now; GET /models has the reason"
        super().__init__("model_unavailable", message, field="model")


class OverloadedError(TamisError):
    """A text that would wait too long for the model; worth another try after `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: int):
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"too many texts are waiting; try again in {retry_after_seconds} s")


STORE_FAULTS = (
    "full",
    "locked",
    "readonly",
    "missing",
    "corrupt",
    "io",
    "timeout",
    "unavailable",
    "overloaded",
    "other",
)
"""Why a store fails. Of a file: disk full, locked by another process, not writable, removed or replaced,
damaged, another error of the disk. Of a cluster: no response in time, too few replicas, overloaded."""


class StoreError(TamisError):
    """A store that cannot be reached, read, written or understood; the message names the store.

    `fault` is one of `STORE_FAULTS`, so that failures can be counted by what they are.
    """

    def __init__(self, message: str, *, fault: str = "other"):
        self.fault = fault
        super().__init__(message)


class SettingsError(TamisError):
    """A setting with a wrong or missing value; the message names its environment variable."""


class MissingExtraError(TamisError):
    """A command that needs an optional part, such as `tamis[train]`."""

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} needs an optional part of Tamis: pip install 'tamis[{extra}]'")
