"""The tables and their migrations. Handles SQL; independent of records.

`PRAGMA user_version` counts the migrations that have run on a file, `application_id` marks it as a store of
Tamis. Times are seconds since 1970; ids are the 16 bytes of `storage.ids`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import apsw

from tamis.errors import StoreError
from tamis.storage.base import RETENTION_DAYS
from tamis.storage.ids import KEY_BYTES
from tamis.storage.sqlite.connection import transaction

APPLICATION_ID = 0x54616D69  # "Tami"

# calls: clustered by time; the second index is one caller's hours, and covers their summary.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;

CREATE TABLE calls (
    id BLOB PRIMARY KEY,
    caller TEXT NOT NULL,
    text TEXT NOT NULL,
    label TEXT NOT NULL,
    score REAL NOT NULL,
    model TEXT NOT NULL,
    from_cache INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX calls_by_caller ON calls (caller, id, label);

CREATE TABLE cache (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    scores TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
"""

_PREDICTION_COLUMNS = """
ALTER TABLE calls ADD COLUMN decision TEXT;
ALTER TABLE calls ADD COLUMN model_name TEXT;
ALTER TABLE calls ADD COLUMN model_version TEXT;
"""

_FEEDBACK = """
CREATE TABLE feedback (
    id BLOB PRIMARY KEY,
    caller TEXT NOT NULL,
    subject BLOB NOT NULL,
    text TEXT NOT NULL,
    label TEXT NOT NULL,
    predicted TEXT,
    model TEXT,
    model_name TEXT,
    model_version TEXT,
    comment TEXT NOT NULL,
    revision BLOB NOT NULL,
    UNIQUE (caller, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX feedback_by_caller ON feedback (caller, id);
"""


def create_tables(connection: apsw.Connection) -> None:
    """Create the call log, the prediction cache and the store's own settings."""
    connection.execute(_TABLES)
    # in the file, because all processes on it must make the same cache keys
    connection.execute("INSERT INTO meta VALUES ('secret', ?)", (os.urandom(KEY_BYTES),))


def drop_cache_table(connection: apsw.Connection) -> None:
    """Drop the prediction cache, which is kept in files beside the database since."""
    connection.execute("DROP TABLE cache")


def add_prediction_columns(connection: apsw.Connection) -> None:
    """Log the decision and the model's name and version with each call."""
    connection.execute(_PREDICTION_COLUMNS)


def create_feedback(connection: apsw.Connection) -> None:
    """Create the feedback log."""
    connection.execute(_FEEDBACK)


MIGRATIONS: tuple[Callable[[apsw.Connection], None], ...] = (
    create_tables,
    drop_cache_table,
    add_prediction_columns,
    create_feedback,
)
"""In order; version n means that the first n have run. Never change one that was released."""

SCHEMA_VERSION = len(MIGRATIONS)


def version_of(connection: apsw.Connection) -> int:
    """Return how many migrations have run on the file; refuse another program's file and a newer version."""
    with connection:  # one snapshot: another process may be creating the tables now
        application = connection.pragma("application_id")
        version = connection.pragma("user_version")
        is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    # a file without tables and marks is new; any other is that of another program
    if application != APPLICATION_ID and not (is_empty and application == version == 0):
        raise StoreError(f"{connection.filename}: an SQLite file of another program; name another path")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{connection.filename}: schema version {version} was written by a newer Tamis "
            f"(this one knows {SCHEMA_VERSION}); upgrade Tamis"
        )
    return int(version)


def migrate(connection: apsw.Connection) -> list[str]:
    """Bring the file to `SCHEMA_VERSION` in one transaction; return the names of the migrations."""
    if version_of(connection) == SCHEMA_VERSION:
        return []
    with transaction(connection):
        # read again under the lock: another process may have been faster
        version = version_of(connection)
        steps = MIGRATIONS[version:]
        for step in steps:
            step(connection)
        if version == 0:  # only a new file: calls of an older one must not disappear after an upgrade
            connection.execute(
                "INSERT INTO meta VALUES ('retention_days', ?)", (str(RETENTION_DAYS).encode(),)
            )
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return [step.__name__ for step in steps]


def tables_as_sql() -> str:
    """Return the SQL of a new file's tables, for an operator to read."""
    connection = apsw.Connection(":memory:")
    migrate(connection)
    made = connection.execute("SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL")
    pragmas = (f"PRAGMA application_id = {APPLICATION_ID};", f"PRAGMA user_version = {SCHEMA_VERSION};")
    return "\n".join([*(row[0] for row in made), *pragmas])
