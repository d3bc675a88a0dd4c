"""What an API key is: how it is made, checked for typos, and hashed.

A key, its record, and the file of records; scopes are checked in `auth`.

A key has a prefix that secret scanners can look for, 30 random characters (178 bits) and a checksum
of six. Only its SHA-256 is kept. A slow, salted hash protects passwords, which can be guessed; a
key with this much chance in it cannot, so a fast hash protects it just as well and costs a request
nothing. A key is found by its hash in a dictionary: how long that takes says nothing of the key,
because a hash with a chosen prefix cannot be constructed.
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
# 62 ** 30 keys: 178 bits
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
    """Return a new random key."""
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


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""A key's name: it begins with a letter and has no colon, so that no key is called like an address."""

Stamp = tuple[int, int, int]
"""What changes when the file does: its inode, size and change time (which cannot be set)."""

_FORMAT_VERSION = 1


class _Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format_version: int
    keys: Sequence[KeyRecord]


class KeyFile:
    """The keys at `path`. Whatever makes the file unusable is a SettingsError of one line."""

    def __init__(self, path: Path):
        self._path = path

    def stamp(self) -> Stamp | None:
        """Return what changes when the file does, None if there is no file."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_ctime_ns, status.st_size

    def read(self) -> Sequence[KeyRecord]:
        """Return all keys in the order in which they were made."""
        try:
            # non-blocking: to open a FIFO would wait for its writer
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise self._unusable("it is not a regular file")
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o022:
                    raise self._unusable("others may write to it; chmod 600 it")
                return self._parse(file.read())
        except FileNotFoundError:
            raise self._unusable(
                "there is no such file; make a first key with: tamis keys create NAME"
            ) from None
        except OSError as failed:
            raise self._unusable(failed.strerror or str(failed)) from None

    def add(self, key: KeyRecord, *, another: bool = False) -> None:
        """Keep a key; one more of the same name only with `another`."""
        with self._changing() as keys:
            if not another and any(key.name == old.name for old in keys):
                raise SettingsError(
                    f"{key.name} has a key already: revoke it first, or take --another to change keys "
                    "without a gap"
                )
            keys.append(key)

    def remove(self, name: str, *, keep_newest: bool = False) -> int:
        """Forget the keys of `name`, with `keep_newest` all but one; return how many."""
        with self._changing() as keys:
            found = [key for key in keys if key.name == name]
            if not found:
                raise SettingsError(f"no key is called {name!r}; see: tamis keys list")
            doomed = found[:-1] if keep_newest else found
            keys[:] = [key for key in keys if key not in doomed]
            return len(doomed)

    @contextmanager
    def _changing(self) -> Iterator[list[KeyRecord]]:
        """Give the keys as a list to change; one process at a time, and all or nothing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            keys = list(self.read()) if self._path.exists() else []
            yield keys
            self._replace(keys)
            os.fsync(folder)
        finally:
            os.close(folder)

    def _replace(self, keys: Sequence[KeyRecord]) -> None:
        body = msgspec.json.format(msgspec.json.encode(_Contents(_FORMAT_VERSION, keys)), indent=1)
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
        """Let a file that root changes stay readable to the service, whose folder it is in."""
        if os.geteuid() == 0:
            owner = (self._path if self._path.exists() else self._path.parent).stat()
            os.fchown(file, owner.st_uid, owner.st_gid)

    def _parse(self, body: bytes) -> Sequence[KeyRecord]:
        try:
            contents = msgspec.json.decode(body, type=_Contents)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._unusable("its contents are damaged; restore it or make new keys") from None
        if contents.format_version != _FORMAT_VERSION:
            raise self._unusable(
                f"its format is {contents.format_version}, this Tamis reads {_FORMAT_VERSION}"
            )
        for key in contents.keys:
            if not NAME.fullmatch(key.name) or not SCOPES.keys() >= set(key.scopes) or not _is_aware(key):
                raise self._unusable(f"it holds a wrong name, scope or time at {key.name[:64]!r}")
        return contents.keys

    def _unusable(self, why: str) -> SettingsError:
        return SettingsError(f"the file of API keys, {self._path}, cannot be used: {why} (TAMIS_KEYS_FILE)")


def _is_aware(key: KeyRecord) -> bool:
    return all(moment is None or moment.tzinfo is not None for moment in (key.created_at, key.expires_at))
