"""Named migrations of a keyspace. Blocks: call it in a thread.

The table `meta` has the version: how many migrations have run on the keyspace. Each migration can be run
again after it was interrupted, because a cluster has no transaction for schema changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from cassandra import DriverException, InvalidRequest
from cassandra.cluster import NoHostAvailable, Session
from cassandra.query import ConsistencyLevel, SimpleStatement

from tamis.errors import StoreError
from tamis.storage.base import StoreOptions
from tamis.storage.cassandra.async_session import describe, fault_of
from tamis.storage.cassandra.connect import ClusterUrl, data_centres
from tamis.storage.cassandra.tables import FEEDBACK_TABLES, PREDICTION_COLUMNS, TABLES, KeyspacePlan, quoted

_QUORUM = ConsistencyLevel.LOCAL_QUORUM

Columns = frozenset[str]
"""Of the table `calls`, as it is before a migration."""


def create_tables(plan: KeyspacePlan, columns: Columns) -> list[str]:
    """Create the call log, the prediction cache and the store's own settings."""
    return [*plan.create_keyspace(), *plan.statements(TABLES)]


def add_prediction_columns(plan: KeyspacePlan, columns: Columns) -> list[str]:
    """Log the decision and the model's name and version with each call."""
    missing = ", ".join(f"{name} text" for name in PREDICTION_COLUMNS if name not in columns)
    return [f"ALTER TABLE {quoted(plan.keyspace)}.calls ADD ({missing});"] if missing else []


def create_feedback(plan: KeyspacePlan, columns: Columns) -> list[str]:
    """Create the feedback log."""
    return plan.statements(FEEDBACK_TABLES)


Migration = Callable[[KeyspacePlan, Columns], list[str]]

MIGRATIONS: tuple[Migration, ...] = (create_tables, add_prediction_columns, create_feedback)
"""In order; version n means that the first n have run. Never change one that was released."""

VERSION = len(MIGRATIONS)


def migrate(session: Session, url: ClusterUrl, options: StoreOptions) -> list[str]:
    """Run the migrations that have not run on the keyspace; return their names."""
    centres = data_centres(session)
    # of one data centre there is no choice: the URL need not name it
    only_dc = next(iter(centres)) if len(centres) == 1 else ""
    nodes = centres.get(url.local_dc or only_dc, 0)
    with translated(url):
        keyspace = session.cluster.metadata.keyspaces.get(url.keyspace)
        is_new = keyspace is None or "meta" not in keyspace.tables
        meta = {} if is_new else _read(session, url)
        _refuse_newer(meta, url)
        plan = KeyspacePlan.of(url, options, local_dc=only_dc, nodes=nodes)
        done = []
        for number, step in enumerate(MIGRATIONS[_version(meta) :], _version(meta) + 1):
            for statement in step(plan, _columns(session, url)):
                # not idempotent: the driver must not try it on a second host at the same time
                session.execute(SimpleStatement(statement, consistency_level=_QUORUM))
            # after each one: a migration that was interrupted goes on here
            session.execute(_safe(_record_version(plan, number)))
            done.append(step.__name__)
        return done


def all_statements(plan: KeyspacePlan) -> list[str]:
    """Return the CQL that creates a keyspace, for a console."""
    steps = [statement for step in MIGRATIONS for statement in step(plan, frozenset())]
    return [*steps, _record_version(plan, VERSION)]


def read_meta(session: Session, url: ClusterUrl) -> Mapping[str, str]:
    """Return the rows of `meta`; StoreError with the command to run if the tables need a migration."""
    run = f"run: tamis migrate --store {url.url}"
    with translated(url):
        try:
            meta = _read(session, url)
        except InvalidRequest as missing:
            what = "tables" if url.keyspace in session.cluster.metadata.keyspaces else "keyspace"
            raise StoreError(f"{url.name}: {what} not found; {run}") from missing
    _refuse_newer(meta, url)
    if _version(meta) != VERSION:
        raise StoreError(f"{url.name}: the tables have version {_version(meta)}, not {VERSION}; {run}")
    return meta


def put_once(session: Session, url: ClusterUrl, entry: tuple[str, str]) -> str:
    """Insert a row into `meta` unless there is one; return the value that is there then."""
    name, value = entry
    # IF NOT EXISTS: of several processes that start at once, all get the value of the first
    insertion = f"INSERT INTO {quoted(url.keyspace)}.meta (name, value) VALUES (%s, %s) IF NOT EXISTS"
    with translated(url):
        session.execute(_safe(insertion), (name, value))
        return _read(session, url)[name]


@contextmanager
def translated(url: ClusterUrl) -> Iterator[None]:
    """Turn the driver's errors into one line."""
    try:
        yield
    except (DriverException, NoHostAvailable) as failed:
        raise StoreError(f"{url.name}: {describe(failed)}", fault=fault_of(failed)) from failed


def _record_version(plan: KeyspacePlan, number: int) -> str:
    return f"INSERT INTO {quoted(plan.keyspace)}.meta (name, value) VALUES ('schema_version', '{number}');"


def _read(session: Session, url: ClusterUrl) -> dict[str, str]:
    return dict(session.execute(_safe(f"SELECT name, value FROM {quoted(url.keyspace)}.meta")).all())


def _safe(statement: str) -> SimpleStatement:
    return SimpleStatement(statement, consistency_level=_QUORUM, is_idempotent=True)


def _columns(session: Session, url: ClusterUrl) -> Columns:
    """Read the columns from the cluster: the driver's own metadata follows changes with a delay."""
    query = "SELECT column_name FROM system_schema.columns WHERE keyspace_name = %s AND table_name = 'calls'"
    return frozenset(name for (name,) in session.execute(query, (url.keyspace,)))


def _version(meta: Mapping[str, str]) -> int:
    version = meta.get("schema_version", "0")
    return int(version) if version.isascii() and version.isdigit() else 0


def _refuse_newer(meta: Mapping[str, str], url: ClusterUrl) -> None:
    if _version(meta) > VERSION:
        raise StoreError(
            f"{url.name}: schema version {_version(meta)} was written by a newer Tamis "
            f"(this one knows {VERSION}); upgrade Tamis"
        )
