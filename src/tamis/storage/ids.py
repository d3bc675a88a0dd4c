"""Cache keys, text digests and time ids. Handles bytes and the clock; independent of databases.

A time id is a version-1 UUID with its bytes in the order of time: eight bytes of 100-nanosecond ticks since
15 October 1582, big-endian, then eight of clock sequence and node. Sorted as bytes, ids are sorted by time,
in every store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from uuid import UUID

from tamis.clock import Clock

ID_BYTES = 16
KEY_BYTES = 32
TICKS_PER_HOUR = 3_600 * 10_000_000

_UNIX_EPOCH_TICKS = 0x01B21DD213814000  # 1970-01-01 counted from 1582-10-15, RFC 9562
# a version-1 UUID has 60 bits of time; four more are its version
MAX_TICKS = (1 << 60) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_forks = 0
"""How often this process was forked from another: cheaper to read for every id than its process id."""


def _count_fork() -> None:
    global _forks
    _forks += 1


# a child has its parent's random bytes and last ticks: without new ones both would make the same ids
os.register_at_fork(after_in_child=_count_fork)


class CacheKeys:
    """Makes the cache keys of one model with one set of options."""

    def __init__(self, secret: bytes, *, model: str, options: str = ""):
        """Take the store's secret, the model's identity and the options that change its answer."""
        # `person` keeps these digests apart from those of `text_digest`, which may have the same key
        self._prefix = blake2b(key=secret, digest_size=KEY_BYTES, person=b"tamis-cache-1")
        for part in (model.encode(), options.encode()):
            # the length in front keeps ("ab", "c") and ("a", "bc") apart
            self._prefix.update(len(part).to_bytes(8, "big") + part)

    def key(self, canonical_text: str) -> bytes:
        """Return the key of 32 bytes; the text cannot be read back from it."""
        # what is the same for all texts was hashed in `__init__`: a copy costs less than doing it again
        digest = self._prefix.copy()
        digest.update(canonical_text.encode())
        return digest.digest()


def text_digest(secret: bytes, text: str) -> bytes:
    """Return the keyed digest of 32 bytes that identifies a text in the feedback log."""
    return blake2b(text.encode(), key=secret, digest_size=KEY_BYTES, person=b"tamis-feedback-1").digest()


class TimeIds:
    """Makes time ids that strictly increase, even when the clock steps back or the process forks.

    The node is random and names no machine. Belongs to one thread.
    """

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes] = os.urandom):
        self._clock, self._random_bytes = clock, random_bytes
        self._last_ticks = 0
        self._tail = b""
        self._made_at_fork = -1

    def next(self) -> bytes:
        """Return an id for a call that arrives now."""
        return self.allocate(1)[0]

    def allocate(self, count: int) -> list[bytes]:
        """Return ids for `count` calls that arrive now, in their order."""
        if self._made_at_fork != _forks:  # a forked child must not reuse its parent's node
            self._made_at_fork, self._tail = _forks, _random_tail(self._random_bytes)
        # after a step back of the clock: one tick after the last id, however long the clock needs to catch up
        first, tail = max(self._last_ticks + 1, self._now_ticks()), self._tail
        self._last_ticks = first + count - 1
        return [ticks.to_bytes(8, "big") + tail for ticks in range(first, first + count)]

    def this_hour(self) -> datetime:
        """Return the start of the UTC hour in which the next id falls, also after a step back."""
        return moment(max(self._last_ticks, self._now_ticks()) // TICKS_PER_HOUR * TICKS_PER_HOUR)

    def _now_ticks(self) -> int:
        return self._clock.utc_ns() // 100 + _UNIX_EPOCH_TICKS


def called_at(time_id: bytes) -> datetime:
    """Return the moment of an id in UTC, to the microsecond."""
    return moment(ticks_of(time_id))


def ticks_of(time_id: bytes) -> int:
    """Return the 100-nanosecond ticks of an id; whole hours are multiples of `TICKS_PER_HOUR`."""
    return int.from_bytes(time_id[:8], "big")


def first_id(ticks: int) -> bytes:
    """Return the lowest bytes that an id of these ticks, or later, could have."""
    # the moments of a query may be before the first tick or after the last one
    return min(max(ticks, 0), MAX_TICKS + 1).to_bytes(8, "big") + bytes(8)


def first_id_at(moment: datetime) -> bytes:
    """Return the lowest bytes that an id of `moment`, or later, could have."""
    return first_id((moment - _EPOCH) // timedelta(microseconds=1) * 10 + _UNIX_EPOCH_TICKS)


def hour_ticks(time_id: bytes) -> int:
    """Return the first ticks of the UTC hour of an id."""
    return ticks_of(time_id) // TICKS_PER_HOUR * TICKS_PER_HOUR


def moment(ticks: int) -> datetime:
    """Return the moment of some ticks in UTC, to the microsecond."""
    return _EPOCH + timedelta(microseconds=(ticks - _UNIX_EPOCH_TICKS) // 10)


def as_uuid(time_id: bytes) -> UUID:
    """Return an id as the version-1 UUID that it is, for a database that knows the type."""
    ticks = ticks_of(time_id)
    # RFC 9562 puts the low bits of the time first, so the UUID's own bytes do not sort by time
    head = (ticks & 0xFFFFFFFF) << 32 | (ticks >> 32 & 0xFFFF) << 16 | 0x1000 | ticks >> 48
    return UUID(bytes=head.to_bytes(8, "big") + time_id[8:])


def uuid_text(time_id: bytes) -> str:
    """Return what `str(as_uuid(time_id))` would, for long lists in a fraction of the time."""
    digits = time_id.hex()
    return f"{digits[8:16]}-{digits[4:8]}-1{digits[1:4]}-{digits[16:20]}-{digits[20:]}"


def uuid_texts(allocated: Sequence[bytes]) -> list[str]:
    """Return `uuid_text` of each of the ids that one `allocate` returned."""
    if len(allocated) < 2 or allocated[0][:4] != allocated[-1][:4]:
        return [*map(uuid_text, allocated)]
    rest = uuid_text(allocated[0])[8:]  # they differ in the lowest bytes of the time, which come first
    return [f"{id[4:8].hex()}{rest}" for id in allocated]


def id_of_text(text: str) -> bytes | None:
    """Return the time id that `uuid_text` wrote, None if the text is no version-1 UUID."""
    try:
        uuid = UUID(text)
    except ValueError:
        return None
    # UUID() also takes braces, `urn:uuid:` and other hyphens: an id must have one spelling
    return from_uuid(uuid) if uuid.version == 1 and str(uuid) == text.lower() else None


def from_uuid(uuid: UUID) -> bytes:
    """Return the time id of a version-1 UUID that `as_uuid` made."""
    return uuid.time.to_bytes(8, "big") + uuid.bytes[8:]


def _random_tail(random_bytes: Callable[[int], bytes]) -> bytes:
    """Return clock sequence and node: 54 random bits in bytes whose top bit is clear.

    Cassandra compares these bytes as signed numbers and everything else as unsigned; without top
    bits there is one order everywhere. The first byte's is the UUID's variant, the same in all ids;
    the multicast bit marks the node as random, not as the address of a network card.
    """
    tail = bytearray(byte & 0x7F for byte in random_bytes(8))
    tail[0] = 0x80 | tail[0] & 0x3F
    tail[2] |= 0x01
    return bytes(tail)
