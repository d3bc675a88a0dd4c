"""What an API key is: how it is made, checked for typos, and hashed.

Knows one key at a time; where keys are kept is `key_file`'s, what they open is `authorization`'s.

A key has a prefix that secret scanners can look for, 30 random characters (178 bits) and a checksum
of six. Only its SHA-256 is kept. A slow, salted hash protects passwords, which can be guessed; a
key with this much chance in it cannot, so a fast hash protects it just as well and costs a request
nothing. A key is found by its hash in a dictionary: how long that takes says nothing of the key,
because nobody can choose a hash that begins like another one.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from msgspec import Struct

SCOPES = {
    "predict": "classify texts, and read the key's own log",
    "log": "read the key's own log",
    "metrics": "read /metrics",
    "admin": "everything, and everybody's log",
}

_PREFIX = "tamis_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_CHARS = 30
_CHECKSUM_CHARS = 6  # 62^6 is just over 2^32
_KEY = re.compile(rf"{_PREFIX}[0-9A-Za-z]{{{_RANDOM_CHARS + _CHECKSUM_CHARS}}}", re.ASCII)


class KeyRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of a key: everything but the key. `name` is the caller's, several keys may share it."""

    name: str
    sha256: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None = None


def new_key() -> str:
    """Return a key that nobody has seen yet."""
    body = _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Return whether `key` could be a key: no typo, and not cut off."""
    return _KEY.fullmatch(key) is not None and key[-_CHECKSUM_CHARS:] == _checksum(key[:-_CHECKSUM_CHARS])


def hash_of(key: str) -> str:
    """Return the SHA-256 under which a key is kept."""
    return sha256(key.encode()).hexdigest()


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
