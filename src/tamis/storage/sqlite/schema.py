"""The tables and how older files become newer ones. Knows SQL; knows no records.

`PRAGMA user_version` counts the migrations that a file has seen, `application_id` says that the
file is ours. Times are seconds since 1970; ids are the 16 bytes of `storage.keys`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import apsw

from tamis.errors import StoreError
from tamis.storage.keys import KEY_BYTES
from tamis.storage.sqlite.connection import transaction

APPLICATION_ID = 0x54616D69  # "Tami"


def create_tables(connection: apsw.Connection) -> None:
    """Make the call log, the prediction cache and the store's own facts."""
    connection.execute(_TABLES)
    connection.execute("INSERT INTO meta VALUES ('secret', ?)", (os.urandom(KEY_BYTES),))


def drop_cache(connection: apsw.Connection) -> None:
    """Give the room of the prediction cache to the log: it has files of its own now."""
    connection.execute("DROP TABLE cache")


MIGRATIONS: tuple[Callable[[apsw.Connection], None], ...] = (create_tables, drop_cache)
"""In order; a file of version n has seen the first n. Never change one that was released."""

SCHEMA_VERSION = len(MIGRATIONS)

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


def version_of(connection: apsw.Connection) -> int:
    """Return how many migrations the file has seen; refuse a file that is not ours or too new."""
    with connection:  # one look at the file: another process may be making the tables now
        application = connection.pragma("application_id")
        version = connection.pragma("user_version")
        is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if application != APPLICATION_ID and not (is_empty and application == version == 0):
        raise StoreError(f"{connection.filename}: an SQLite file of another program; name another path")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{connection.filename}: schema version {version} was made by a newer Tamis "
            f"(this one knows {SCHEMA_VERSION}); update Tamis"
        )
    return int(version)


def migrate(connection: apsw.Connection) -> None:
    """Bring the file to `SCHEMA_VERSION`, in one transaction, whoever else tries it now."""
    if version_of(connection) == SCHEMA_VERSION:
        return
    with transaction(connection):
        # asked again under the lock: another process may have been faster
        for step in MIGRATIONS[version_of(connection) :]:
            step(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def tables_as_sql() -> str:
    """Return what a new file's tables are made of, as an operator may want to read it."""
    connection = apsw.Connection(":memory:")
    migrate(connection)
    made = connection.execute("SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL")
    facts = (f"PRAGMA application_id = {APPLICATION_ID};", f"PRAGMA user_version = {SCHEMA_VERSION};")
    return "\n".join([*(row[0] for row in made), *facts])
