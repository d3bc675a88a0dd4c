"""Authentication by API key: which key a request carries, whether it is valid, and its scopes.

    header ─► checksum only for the message ─► SHA-256 ─► ApiKeyWatcher ─► expiry ─► scopes ─► Caller

No message, log line or repr contains a key or a part of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from starlette.types import Scope

from tamis.clock import Clock
from tamis.errors import SettingsError
from tamis.service.responses import Refused
from tamis.service.security.api_keys import KeyFile, KeyRecord, Stamp, hash_of, is_well_formed
from tamis.service.security.client_identity import Access, Caller, ClientIdentifier

_CHECK_SECONDS = 0.5
"""Interval between checks of the file: a revoked key is refused within a second, as documented."""

_LARGE_FILE_BYTES = 262_144
"""A larger file, of more than a thousand keys, is parsed in a thread."""

_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_CHALLENGE = b'Bearer realm="tamis"'

_log = logging.getLogger(__name__)


class ApiKeyGrant(NamedTuple):
    """A key of the file: its caller, scopes and expiry."""

    caller: Caller
    scopes: frozenset[str]
    expires_ns: float


class ApiKeyWatcher:
    """The keys of the file, reloaded after it has changed.

    The file is checked at most every `_CHECK_SECONDS`, and only when a request arrives; between two checks a
    request costs no system call. While the file is missing or damaged every key is refused, because the
    revoked ones are unknown.
    """

    def __init__(self, file: KeyFile, clock: Clock):
        self._file, self._clock = file, clock
        self._stamp = file.stamp()  # before reading: a change in between is seen at the next check
        self._keys: dict[str, ApiKeyGrant] | None = _grants(file.read())
        self._next_check = clock.monotonic() + _CHECK_SECONDS

    def find(self, key: str) -> ApiKeyGrant | None:
        """Return the grant of a key, None if it does not exist or is revoked."""
        if self._clock.monotonic() >= self._next_check:
            self._check()
        if self._keys is None:
            message, retry = "keys cannot be checked now; try again later", [(b"retry-after", b"1")]
            raise Refused("keys_unavailable", message, field="authorization", headers=retry)
        return self._keys.get(hash_of(key))

    def is_expired(self, grant: ApiKeyGrant) -> bool:
        """Return whether a key has expired."""
        return self._clock.utc_ns() >= grant.expires_ns

    def _check(self) -> None:
        self._next_check = self._clock.monotonic() + _CHECK_SECONDS
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is not None and stamp[2] > _LARGE_FILE_BYTES:
            # the old keys stay valid until then: seconds of parsing on the loop would stall all requests
            parsing = asyncio.get_running_loop().run_in_executor(None, self._parsed)
            parsing.add_done_callback(lambda done: self._replace(stamp, done.result()))
        else:
            self._replace(stamp, self._parsed())

    def _parsed(self) -> dict[str, ApiKeyGrant] | SettingsError:
        try:
            return _grants(self._file.read())
        except SettingsError as unusable:  # returned, because it must reach the loop's thread to be logged
            return unusable

    def _replace(self, stamp: Stamp | None, parsed: dict[str, ApiKeyGrant] | SettingsError) -> None:
        """Use the parsed keys, unless the file has changed again: then another parse is under way."""
        if stamp != self._stamp:
            return
        if isinstance(parsed, SettingsError):
            self._keys = None
            _log.error("%s; every key is refused until then", parsed)
        else:
            self._keys = parsed


class ApiKeyIdentifier(ClientIdentifier):
    """Identifies clients by API key; on routes that need none, clients without a key by address."""

    def __init__(self, keys: ApiKeyWatcher, others: ClientIdentifier):
        self._keys, self._others = keys, others

    def identify(self, scope: Scope, access: Access) -> Caller:
        """Return the owner of the key; raise 401 (missing or invalid key) or 403 (missing scope)."""
        key = None if access.is_open else _sent_key(scope["headers"])
        if key is not None:
            return self._checked(key, access.scopes)
        if access.is_open or access.is_optional:
            return self._others.identify(scope, access)
        message = "send a key in the header `authorization: Bearer ...` or `x-api-key`"
        raise _refusal("missing_key", message, _CHALLENGE)

    def _checked(self, key: str, needed: frozenset[str]) -> Caller:
        invalid = _CHALLENGE + b', error="invalid_token"'
        grant = self._keys.find(key)
        if grant is None:
            # the checksum is looked at only now: it explains a failure, the hash alone decides
            is_typo = not is_well_formed(key)
            why = "is mistyped or cut off: its checksum is wrong" if is_typo else "is not known here"
            raise _refusal("wrong_key", f"the key {why}", invalid)
        if self._keys.is_expired(grant):
            raise _refusal("expired_key", "the key has expired", invalid)
        if needed and grant.scopes.isdisjoint(needed):
            # admin opens every route, so naming it would suggest asking for more than is needed
            scopes = " ".join(sorted(needed - {"admin"}))
            challenge = b'%s, error="insufficient_scope", scope="%s"' % (_CHALLENGE, scopes.encode())
            message = f"the key lacks a scope that opens this path: {scopes.replace(' ', ' or ')}"
            raise _refusal("missing_scope", message, challenge)
        return grant.caller


def _refusal(code: str, message: str, challenge: bytes) -> Refused:
    """Return the error with the challenge that RFC 6750 requires."""
    return Refused(code, message, field="authorization", headers=[(b"www-authenticate", challenge)])


def _sent_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the key of the first header that may carry one; other credentials are ignored."""
    # headers are bytes; latin-1 decodes any of them, and a key that is not ASCII matches no hash
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            return value.strip().decode("latin-1")
    return None


def _grants(records: Iterable[KeyRecord]) -> dict[str, ApiKeyGrant]:
    return {
        record.sha256: ApiKeyGrant(
            Caller(record.name, limited_as=record.name, is_admin="admin" in record.scopes),
            frozenset(record.scopes),
            # integers all the way: `timestamp()` is a float, which rounds to a fraction of a microsecond
            (record.expires_at - _EPOCH) // _MICROSECOND * 1_000 if record.expires_at else float("inf"),
        )
        for record in records
    }
