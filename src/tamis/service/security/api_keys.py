"""API keys: their format, checksum and hash, and the file of key records. Scopes are checked in `auth`.

    tamis_ | 30 random characters (178 bits) | 6 characters: CRC-32 of everything before

Secret scanners search for the prefix; the checksum distinguishes a typo from an unknown key. Only the
SHA-256 is stored. Passwords need a slow, salted hash because they can be guessed; 178 random bits cannot, so
a fast hash protects them as well and costs a request nothing. A key is looked up by its hash in a dictionary:
the lookup time reveals nothing about the key, because a hash with a chosen prefix cannot be constructed.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import string
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from msgspec import Struct

from tamis.errors import SettingsError

SCOPES = {
    "predict": "classify texts, and read the key's own log",
    "log": "read the key's own log",
    "feedback": "report true labels, and read the key's own reports",
    "metrics": "read /metrics",
    "admin": "everything, and the log of all callers",
}

_PREFIX = "tamis_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# 62^30 keys: 178 bits, more than a brute-force search could ever cover
_RANDOM_CHARS = 30
# 62^6 is just over 2^32, so six characters hold any CRC-32
_CHECKSUM_CHARS = 6
_KEY = re.compile(rf"{_PREFIX}[0-9A-Za-z]{{{_RANDOM_CHARS + _CHECKSUM_CHARS}}}", re.ASCII)


class KeyRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A stored key, without the key itself. `name` is the caller's; several keys may share it."""

    name: str
    sha256: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None = None


def new_key() -> str:
    """Return a new random key."""
    body = _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_CHARS))
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Return whether `key` could be a key: no typo, and not cut off."""
    return _KEY.fullmatch(key) is not None and key[-_CHECKSUM_CHARS:] == _checksum(key[:-_CHECKSUM_CHARS])


def hash_of(key: str) -> str:
    """Return the SHA-256 under which a key is stored."""
    return sha256(key.encode()).hexdigest()


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""A key's name: it begins with a letter and has no colon, so it never equals an IP address in the log."""

Stamp = tuple[int, int, int]
"""A file's inode, change time (which no program can set) and size: differs after every change."""

_FORMAT_VERSION = 1


class _Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format_version: int
    keys: Sequence[KeyRecord]


class KeyFile:
    """The key records at `path`; a file that cannot be used raises SettingsError."""

    def __init__(self, path: Path):
        self._path = path

    def stamp(self) -> Stamp | None:
        """Return the file's stamp, None if there is no file."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns, status.st_size

    def read(self) -> Sequence[KeyRecord]:
        """Return all keys in the order in which they were created."""
        try:
            # non-blocking: opening a FIFO would wait for its writer
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise self._unusable("it is not a regular file")
                # a user who can write here could add an admin key
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
                    raise self._unusable("others may write to it; chmod 600 it")
                return self._parse(file.read())
        except FileNotFoundError:
            raise self._unusable("no such file; create a first key with: tamis keys create NAME") from None
        except OSError as failed:
            raise self._unusable(failed.strerror or str(failed)) from None

    def add(self, key: KeyRecord, *, another: bool = False) -> None:
        """Store a key; a second key of the same name needs `another`."""
        with self._changing() as keys:
            if not another and any(key.name == old.name for old in keys):
                message = "revoke it first, or pass --another to replace it without downtime"
                raise SettingsError(f"{key.name} has a key already; {message}")
            keys.append(key)

    def remove(self, name: str, *, keep_newest: bool = False) -> int:
        """Delete the keys of `name`, with `keep_newest` all but one; return how many."""
        with self._changing() as keys:
            found = [key for key in keys if key.name == name]
            if not found:
                raise SettingsError(f"no key has the name {name!r}; see: tamis keys list")
            removed = found[:-1] if keep_newest else found
            keys[:] = [key for key in keys if key not in removed]
            return len(removed)

    @contextmanager
    def _changing(self) -> Iterator[list[KeyRecord]]:
        """Yield the keys as a list to change; one process at a time, all or nothing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # the folder is locked, not the file: `_replace` puts a new inode at its path, which has no lock
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = list(self.read()) if self._path.exists() else []
            yield keys
            self._replace(keys)
            os.fsync(folder)  # without it a power failure could bring back a revoked key
        finally:
            os.close(folder)

    def _replace(self, keys: Sequence[KeyRecord]) -> None:
        body = msgspec.json.format(msgspec.json.encode(_Contents(_FORMAT_VERSION, keys)), indent=1)
        # a temporary file in the same folder: os.replace is atomic only within one file system
        with NamedTemporaryFile(dir=self._path.parent, prefix=".keys-", delete=False) as file:  # mode 600
            try:
                file.write(body + b"\n")
                file.flush()
                self._give_to_owner(file.fileno())
                os.fsync(file.fileno())
                os.replace(file.name, self._path)
            except BaseException:
                os.unlink(file.name)
                raise

    def _give_to_owner(self, file: int) -> None:
        """Give a file that root wrote to the service's user, who must be able to read it."""
        if os.geteuid() == 0:
            owner = (self._path if self._path.exists() else self._path.parent).stat()
            os.fchown(file, owner.st_uid, owner.st_gid)

    def _parse(self, body: bytes) -> Sequence[KeyRecord]:
        try:
            contents = msgspec.json.decode(body, type=_Contents)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._unusable("its contents are damaged; restore it or create new keys") from None
        if contents.format_version != _FORMAT_VERSION:
            found = contents.format_version
            raise self._unusable(f"its format is {found}, this Tamis reads {_FORMAT_VERSION}")
        for key in contents.keys:
            # a time without a zone could not be compared with UTC, so the key would never expire
            times = (key.created_at, key.expires_at)
            is_aware = all(time is None or time.tzinfo is not None for time in times)
            if not NAME.fullmatch(key.name) or not SCOPES.keys() >= set(key.scopes) or not is_aware:
                raise self._unusable(f"invalid name, scope or time at {key.name[:64]!r}")
        return contents.keys

    def _unusable(self, why: str) -> SettingsError:
        return SettingsError(f"the file of API keys, {self._path}, cannot be used: {why} (TAMIS_KEYS_FILE)")
