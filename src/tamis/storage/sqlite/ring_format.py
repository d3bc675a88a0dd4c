"""The bytes of a ring: header, head and slots. Knows no file.

    0 magic, slot size, number of slots · 64 head: slots ever written, checksum · 4096 slot 0 · slot 1 · …

A slot is its checksum, the key, the second it expires and the scores.
"""

from __future__ import annotations

import struct
from zlib import crc32

from tamis.storage.ids import KEY_BYTES

MIN_SLOT_BYTES = 128
MAX_SLOT_BYTES = 2**20
"""Scores that need more, of a hundred thousand labels, are not cached."""

MAGIC = b"TamisCache\x00\x02"
"""The last byte is the version of what follows."""

# the head is rewritten with every batch of slots, the header never
HEAD_AT = 64
# slots start on a page of their own
SLOTS_AT = 4096

# "<": sizes and byte order are the same on every machine
_HEADER = struct.Struct(f"<{len(MAGIC)}sIQ")  # bytes of a slot, number of slots
_HEAD = struct.Struct("<QI")  # slots that were ever written, checksum
PREFIX_BYTES = HEAD_AT + _HEAD.size
"""Bytes of a file that header and head take."""

# of a slot: the checksum of the rest; the key, seconds since 1970 when it expires, bytes of the scores
CHECKSUM = struct.Struct("<I")
_FACTS = struct.Struct(f"<{KEY_BYTES}sII")
_SCORES_AT = CHECKSUM.size + _FACTS.size


def pack_header(slot_bytes: int, n_slots: int) -> bytes:
    """Return the header of a ring of these dimensions."""
    return _HEADER.pack(MAGIC, slot_bytes, n_slots)


def pack_head(head: int) -> bytes:
    """Return the head of a ring in which `head` slots were ever written."""
    return _HEAD.pack(head, _head_checksum(head))


def unpack_head(found: bytes, header: bytes) -> int | None:
    """Return the head in the first bytes of a file; None if it is damaged or not of a ring with `header`."""
    if len(found) < PREFIX_BYTES or not found.startswith(header):
        return None
    head, checksum = _HEAD.unpack_from(found, HEAD_AT)
    return int(head) if checksum == _head_checksum(head) else None


def pack_facts(key: bytes, expires_at: int, scores: bytes) -> bytes:
    """Return what a slot holds besides its checksum."""
    return _FACTS.pack(key, expires_at, len(scores)) + scores


def slot_bytes_for(facts: bytes) -> int:
    """Return the size of a slot, a power of two, that holds `facts` and their checksum."""
    needed = CHECKSUM.size + len(facts)
    return max(MIN_SLOT_BYTES, 1 << (needed - 1).bit_length())


def is_slot_size(number: int) -> bool:
    """Return whether there are rings of this slot size."""
    return MIN_SLOT_BYTES <= number <= MAX_SLOT_BYTES and number & (number - 1) == 0


def scores_in(slot: bytes, key: bytes, now_seconds: int) -> bytes | None:
    """Return the scores in a slot of `key`; None if it is another key's, expired or damaged."""
    if len(slot) < _SCORES_AT:
        return None
    (checksum,) = CHECKSUM.unpack_from(slot)
    found, expires_at, length = _FACTS.unpack_from(slot, CHECKSUM.size)
    end = _SCORES_AT + length
    # the key first: in nearly every slot that the index leads to wrongly it differs
    is_live = found == key and expires_at > now_seconds and crc32(slot[CHECKSUM.size : end]) == checksum
    return slot[_SCORES_AT:end] if is_live else None


def _head_checksum(head: int) -> int:
    return crc32(head.to_bytes(8, "little"))
