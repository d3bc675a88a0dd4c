"""From a store URL to a store that is not yet open. Knows the schemes and nothing of tables."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from tamis.clock import Clock
from tamis.errors import MissingExtraError, StoreError
from tamis.storage.base import Store, StoreOptions
from tamis.storage.memory import MemoryStore
from tamis.storage.sqlite import SqliteStore
from tamis.storage.sqlite.schema import tables_as_sql

_SQLITE = "sqlite:///"


def make_store(url: str, clock: Clock, options: StoreOptions | None = None) -> Store:
    """Return the store that `url` names; `await store.open()` is the caller's next step.

    `memory:`, or `sqlite:///` and a path: three slashes before a relative one, four before an
    absolute one, as SQLAlchemy has it. `cassandra://user:password@host1,host2/keyspace?local_dc=…`, or
    `astra:` where the options say which database.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest:
        return MemoryStore(clock, options)
    path = file_of(url)
    if path is not None:
        return SqliteStore(path, clock, options)
    if scheme == "cassandra" or url == "astra:":
        return _cluster_store(url, clock, options or StoreOptions())
    # the URL itself is not repeated: it may hold a password
    raise StoreError(
        f"a store URL that begins with {scheme[:20]!r} is unknown: use sqlite:///path/file.db or memory:"
    )


def _cluster_store(url: str, clock: Clock, options: StoreOptions) -> Store:
    """Import the driver only for those who ask for it."""
    try:
        from tamis.storage.cassandra import CassandraStore, Target
    except ModuleNotFoundError as missing:
        raise MissingExtraError(f"a store at {url.partition(':')[0]}:", "cassandra") from missing
    is_astra = url == "astra:"
    target = Target.of_astra(options.cluster.astra) if is_astra else Target.of_url(url)
    return CassandraStore(target, clock, options)


def file_of(url: str) -> Path | None:
    """Return the file of an embedded store; None for a store that is no file."""
    path = url.removeprefix(_SQLITE)
    return Path(unquote(path)) if path and path != url else None


def tables_of(url: str) -> str:
    """Return the SQL that makes the tables of an embedded store; empty for one without tables."""
    return tables_as_sql() if file_of(url) is not None else ""
