"""Makes the tables and reads what they say of themselves. Knows a session; blocks: for threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cassandra import DriverException, InvalidRequest
from cassandra.cluster import NoHostAvailable, Session
from cassandra.query import ConsistencyLevel, SimpleStatement

from tamis.errors import StoreError
from tamis.storage.base import StoreOptions
from tamis.storage.cassandra.connect import data_centres
from tamis.storage.cassandra.faults import fault_of, meaning
from tamis.storage.cassandra.schema import VERSION, Plan, quoted, statements
from tamis.storage.cassandra.target import Target


def make_tables(session: Session, target: Target, options: StoreOptions) -> None:
    """Create what is missing; done twice it does nothing."""
    centres = data_centres(session)
    only_dc = next(iter(centres)) if len(centres) == 1 else ""
    nodes = centres.get(target.local_dc or only_dc, 0)
    with translated(target):
        found = _read(session, target) if _is_there(session, target) else {}
        _refuse_newer(found, target)
        if found.get("schema_version") == str(VERSION):
            return
        for statement in statements(Plan.of(target, options, local_dc=only_dc, nodes=nodes)):
            session.execute(_safe(statement))


def read_meta(session: Session, target: Target) -> Mapping[str, str]:
    """Return what the tables say of themselves; StoreError that says what to run if they do not fit."""
    run = f"run: tamis migrate --store {target.url}"
    with translated(target):
        try:
            found = _read(session, target)
        except InvalidRequest as missing:
            what = "no keyspace of that name" if not _has_keyspace(session, target) else "no tables"
            raise StoreError(f"{target.name}: there is {what}; {run}") from missing
    version = found.get("schema_version", "0")
    if version != str(VERSION):
        _refuse_newer(found, target)
        raise StoreError(f"{target.name}: the tables have version {version}, not {VERSION}; {run}")
    return found


def remember_once(session: Session, target: Target, entry: tuple[str, str]) -> str:
    """Keep a value that is not there yet; return the one that is there then, whoever put it."""
    name, value = entry
    insertion = f"INSERT INTO {quoted(target.keyspace)}.meta (name, value) VALUES (%s, %s) IF NOT EXISTS"
    with translated(target):
        session.execute(_safe(insertion), (name, value))
        return _read(session, target)[name]


@contextmanager
def translated(target: Target) -> Iterator[None]:
    """Turn the driver's errors into one line."""
    try:
        yield
    except (DriverException, NoHostAvailable) as failed:
        raise StoreError(f"{target.name}: {meaning(failed)}", fault=fault_of(failed)) from failed


def _read(session: Session, target: Target) -> dict[str, str]:
    return dict(session.execute(_safe(f"SELECT name, value FROM {quoted(target.keyspace)}.meta")).all())


def _safe(statement: str) -> SimpleStatement:
    return SimpleStatement(statement, consistency_level=ConsistencyLevel.LOCAL_QUORUM, is_idempotent=True)


def _is_there(session: Session, target: Target) -> bool:
    keyspace = session.cluster.metadata.keyspaces.get(target.keyspace)
    return keyspace is not None and "meta" in keyspace.tables


def _has_keyspace(session: Session, target: Target) -> bool:
    return target.keyspace in session.cluster.metadata.keyspaces


def _refuse_newer(found: Mapping[str, str], target: Target) -> None:
    version = found.get("schema_version", "0")
    if version.isdigit() and int(version) > VERSION:
        raise StoreError(
            f"{target.name}: the tables have version {version}, newer than this Tamis ({VERSION}): upgrade it"
        )
