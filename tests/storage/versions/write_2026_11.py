"""Writes a store file, a spool file and a keyspace as the version of November 2026 did, in this folder.

    git checkout 5c27644 -- src && python tests/storage/versions/write_2026_11.py

It runs with that version only, whose rows were tuples; what it wrote is kept beside it, and the tests of
the migrations read it. SQLite schema version 2, spool version 1, Cassandra schema version 1.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from tamis.records import CallRecord
from tamis.storage.cassandra.places import hour_ticks, moment, shard_of
from tamis.storage.cassandra.schema import Plan, statements
from tamis.storage.keys import as_uuid

from tamis.clock import Clock
from tamis.storage import FileSpool, TimeIds, make_store

HERE = Path(__file__).parent
MODEL = "3f2a" * 16
ROWS = [
    ("10.0.0.1", "WIN a FREE phone, text CLAIM now", "spam", 0.97, False),
    ("10.0.0.1", "WIN a FREE phone, text CLAIM now", "spam", 0.97, True),
    ("10.0.0.1", "shall we meet at noon?", "ham", 1 / 3, False),
    ("alice", "nul \0, line\nbreak, quote ' and \u00e9\U0001f600", "ham", 0.1 + 0.2, False),
    ("alice", "", "ham", 1.0, True),
]


class FixedClock(Clock):
    """Always the same moment: 21 November 2026, 22:38:33 UTC."""

    def utc_ns(self) -> int:
        return 1_795_300_713_209_512_000

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def rows() -> list[CallRecord]:
    ids = TimeIds(FixedClock(), lambda count: bytes(range(count)))
    return [
        CallRecord(ids.next(), caller, text, label, score, MODEL, from_cache)
        for caller, text, label, score, from_cache in ROWS
    ]


async def write_store(path: Path) -> None:
    path.unlink(missing_ok=True)
    store = make_store(f"sqlite:///{path}", FixedClock())
    await store.open()
    await store.append(rows())
    await store.close()
    for cache in path.parent.glob(f"{path.name}-cache*"):
        cache.unlink()


async def write_spool(path: Path) -> None:
    path.unlink(missing_ok=True)
    spool = FileSpool(path)
    await spool.open()
    await spool.put(rows())
    await spool.close()


def write_keyspace(path: Path) -> None:
    plan = Plan("tamis", "datacenter1:3", log_days=3_650, cache_seconds=86_400)
    lines = [*statements(plan), *map(insertion, rows())]
    for caller, hour in sorted({(row.caller, moment(hour_ticks(row.id))) for row in rows()}):
        at = f"{hour:%Y-%m-%d %H:%M:%S}+0000"
        lines.append(f"INSERT INTO tamis.hours (of_all, caller, hour) VALUES (true, '', '{at}');")
        lines.append(f"INSERT INTO tamis.hours (of_all, caller, hour) VALUES (false, '{caller}', '{at}');")
        lines.append(f"INSERT INTO tamis.callers (hour, caller) VALUES ('{at}', '{caller}');")
    path.write_text("\n-- \n".join(lines), "utf-8")


def insertion(row: CallRecord) -> str:
    text, hour = row.text.replace("'", "''"), moment(hour_ticks(row.id))
    return (
        "INSERT INTO tamis.calls (caller, hour, shard, id, text, label, score, model, from_cache) VALUES ("
        f"'{row.caller}', '{hour:%Y-%m-%d %H:%M:%S}+0000', {shard_of(row.id)}, {as_uuid(row.id)}, "
        f"'{text}', '{row.label}', {row.score!r}, '{row.model}', {str(row.from_cache).lower()});"
    )


if __name__ == "__main__":
    asyncio.run(write_store(HERE / "store-2.db"))
    asyncio.run(write_spool(HERE / "spool-1.db"))
    write_keyspace(HERE / "keyspace-1.cql")
