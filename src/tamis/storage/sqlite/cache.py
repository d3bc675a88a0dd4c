"""The prediction cache's SQL. Knows one connection; sees keyed digests, never a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import apsw
import msgspec

from tamis.storage.base import Answers, Scores
from tamis.storage.sqlite.connection import transaction

ROWS_OF_A_SWEEP = 1_000

# JSON, because an operator can read it and its shortest digits give back the very same double
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, float]).decode

_MOST_KEYS = 32
"""Keys of one statement: asked one by one, each would cost the Python around it again."""

# a live answer stays: the same key means the same model, options and text, so the same answer
_INSERT = """
INSERT INTO cache (key, scores, expires_at) VALUES (?1, ?2, ?3)
ON CONFLICT (key) DO UPDATE SET scores = excluded.scores, expires_at = excluded.expires_at
WHERE cache.expires_at <= ?4
"""

# numbers have gaps where expired rows were deleted, so this bounds the rows from above
_BEYOND_THE_BOUND = """
SELECT number FROM cache WHERE number <= (SELECT max(number) FROM cache) - :most ORDER BY number LIMIT :few
"""
_EXPIRED = """
SELECT number FROM cache WHERE number > :after AND (:last IS NULL OR number <= :last) AND expires_at <= :now
"""


def look_up(connection: apsw.Connection, keys: Sequence[bytes], now_seconds: int) -> list[Scores | None]:
    """Return the answers under `keys` that have not expired."""
    found: dict[bytes, str] = {}
    for start in range(0, len(keys), _MOST_KEYS):
        part = keys[start : start + _MOST_KEYS]
        found.update(connection.execute(_select(len(part)), (*part, now_seconds)))
    if not found:
        return [None] * len(keys)
    return [_decode(found[key]) if key in found else None for key in keys]


@cache
def _select(count: int) -> str:
    return f"SELECT key, scores FROM cache WHERE key IN ({', '.join('?' * count)}) AND expires_at > ?"


def remember(
    connection: apsw.Connection, answers: Iterable[Answers], now_seconds: int, cache_seconds: float
) -> None:
    """Add answers to the open transaction."""
    expires_at = now_seconds + int(cache_seconds)
    connection.executemany(
        _INSERT,
        [
            (key, _encode(scores).decode(), expires_at, now_seconds)
            for some in answers
            for key, scores in some.items()
        ],
    )


def sweep(connection: apsw.Connection, *, position: int, now_seconds: int, most_rows: int) -> int:
    """Delete a few of the oldest rows beyond `most_rows`, and the expired among those behind `position`.

    Takes the write lock only when there is something to delete. Return the position for the next
    sweep, 0 when this one came to the end.
    """
    last: int | None = connection.execute(
        "SELECT number FROM cache WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?",
        (position, ROWS_OF_A_SWEEP - 1),
    ).get
    values = {"after": position, "last": last, "now": now_seconds, "most": most_rows, "few": ROWS_OF_A_SWEEP}
    for doomed in (_BEYOND_THE_BOUND, _EXPIRED):
        if connection.execute(f"SELECT EXISTS ({doomed})", values).get:
            with transaction(connection):
                connection.execute(f"DELETE FROM cache WHERE number IN ({doomed})", values)
    return last or 0
