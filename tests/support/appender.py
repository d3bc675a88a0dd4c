"""A process that appends calls for ever and says on standard output which were acknowledged.

    python appender.py FILE [COUNT]

Each acknowledged id is 16 bytes in one write, so that the reader loses none when this is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count
from pathlib import Path

from tamis.clock import SystemClock
from tamis.storage import StoreOptions, TimeIds
from tamis.storage.ids import CacheKeys
from tamis.storage.sqlite import SqliteStore
from tests.support.store_samples import SCORES, call

APPENDERS = 8


async def main(path: Path, rows: int | None) -> None:
    clock = SystemClock()
    store = SqliteStore(path, clock, StoreOptions(lock_seconds=10, cache_rows=1_000))
    await store.open()
    ids, keys, numbers = TimeIds(clock), CacheKeys(store.cache.secret, model="m"), count()

    async def append_for_ever() -> None:
        for number in numbers:
            if rows is not None and number >= rows:
                return
            text = f"{os.getpid()} {number} " + "x" * (number * 7919 % 3_000)
            one = call(ids, text, caller=str(number % 5))
            await store.log.append([one])
            await store.cache.put_many({keys.key(text): SCORES})
            os.write(sys.stdout.fileno(), one.id)

    await asyncio.gather(*(append_for_ever() for _ in range(APPENDERS)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None))
