"""The store in one SQLite file, for any number of processes of one machine."""

from tamis.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
