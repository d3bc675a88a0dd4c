"""The prediction cache's SQL. Knows one connection; sees keyed digests, never a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw
import msgspec

from tamis.storage.base import Answers, Scores
from tamis.storage.sqlite.connection import transaction

ROWS_OF_A_SWEEP = 1_000

# JSON, because an operator can read it and its shortest digits give back the very same double
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, float]).decode

_SELECT = "SELECT scores FROM cache WHERE key = ? AND expires_at > ?"

# a live answer stays: the same key means the same model, options and text, so the same answer
_INSERT = """
INSERT INTO cache (key, scores, expires_at) VALUES (?1, ?2, ?3)
ON CONFLICT (key) DO UPDATE SET scores = excluded.scores, expires_at = excluded.expires_at
WHERE cache.expires_at <= ?4
"""


def look_up(connection: apsw.Connection, keys: Sequence[bytes], now_seconds: int) -> list[Scores | None]:
    """Return the answers under `keys` that have not expired."""
    found = [connection.execute(_SELECT, (key, now_seconds)).get for key in keys]
    return [None if scores is None else _decode(scores) for scores in found]


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

    Return the position for the next sweep, 0 when this one came to the end.
    """
    with transaction(connection):
        connection.execute(
            "DELETE FROM cache WHERE number <= (SELECT max(number) FROM cache) - ?1 "
            "AND number IN (SELECT number FROM cache ORDER BY number LIMIT ?2)",
            (most_rows, ROWS_OF_A_SWEEP),
        )
        last: int | None = connection.execute(
            "SELECT number FROM cache WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?",
            (position, ROWS_OF_A_SWEEP - 1),
        ).get
        connection.execute(
            "DELETE FROM cache WHERE number > ?1 AND (?2 IS NULL OR number <= ?2) AND expires_at <= ?3",
            (position, last, now_seconds),
        )
    return last or 0
