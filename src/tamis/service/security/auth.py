"""ClientIdentifier by API key: which key a request carries, whether it holds, and what it opens.

Knows hashes, scopes and paths. No message, log line or repr holds a key or a part of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, NoReturn

from starlette.types import Scope

from tamis.clock import Clock
from tamis.errors import SettingsError
from tamis.service.responses import Refused
from tamis.service.security.api_keys import KeyFile, KeyRecord, Stamp, hash_of, is_well_formed
from tamis.service.security.client_identity import Access, Caller, ClientIdentifier

_CHECK_SECONDS = 0.5
"""How old the knowledge of the file may be: a key that is revoked is refused within a second."""

_LARGE_FILE_BYTES = 262_144
"""A larger file, of more than a thousand keys, is parsed in a thread."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHALLENGE = b'Bearer realm="tamis"'

_log = logging.getLogger(__name__)


class ApiKeyGrant(NamedTuple):
    """A key of the file: its caller, scopes and expiry."""

    caller: Caller
    scopes: frozenset[str]
    expires_ns: float


class ApiKeyWatcher:
    """The keys in the file, read again soon after it has changed.

    The file is checked for changes at most every `_CHECK_SECONDS`, and only when a request comes; between
    two checks a request costs no system call. With a missing or damaged file every key is rejected,
    because the revoked ones are unknown.
    """

    def __init__(self, file: KeyFile, clock: Clock):
        self._file, self._clock = file, clock
        self._stamp = file.stamp()  # before reading: a change in between is seen at the next look
        self._keys: dict[str, ApiKeyGrant] | None = _known(file.read())
        self._next_look = clock.monotonic() + _CHECK_SECONDS

    def find(self, key: str) -> ApiKeyGrant | None:
        """Return the grant of a key, None if it does not exist or is revoked."""
        if self._clock.monotonic() >= self._next_look:
            self._look()
        if self._keys is None:
            raise Refused(
                "keys_unavailable",
                "keys cannot be checked now; try again later",
                field="authorization",
                headers=[(b"retry-after", b"1")],
            )
        return self._keys.get(hash_of(key))

    def is_expired(self, known: ApiKeyGrant) -> bool:
        """Return whether a key's time is over."""
        return self._clock.utc_ns() >= known.expires_ns

    def _look(self) -> None:
        self._next_look = self._clock.monotonic() + _CHECK_SECONDS
        stamp = self._file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is not None and stamp[2] > _LARGE_FILE_BYTES and (loop := _running_loop()) is not None:
            # the old keys stay valid until the file is parsed; seconds of parsing would stall all requests
            parsing = loop.run_in_executor(None, self._parsed)
            parsing.add_done_callback(lambda done: self._replace(stamp, done.result()))
        else:
            self._replace(stamp, self._parsed())

    def _parsed(self) -> dict[str, ApiKeyGrant] | SettingsError:
        try:
            return _known(self._file.read())
        except SettingsError as unusable:
            return unusable

    def _replace(self, stamp: Stamp | None, parsed: dict[str, ApiKeyGrant] | SettingsError) -> None:
        """Use what was parsed, unless the file has changed again: that is being parsed too."""
        if stamp != self._stamp:
            return
        if isinstance(parsed, SettingsError):
            self._keys = None
            _log.error("%s; every key is refused until then", parsed)
        else:
            self._keys = parsed


class ApiKeyIdentifier(ClientIdentifier):
    """ClientIdentifier known by their keys; where no key is needed, those without one by their address."""

    def __init__(self, keys: ApiKeyWatcher, others: ClientIdentifier):
        self._keys, self._others = keys, others

    def identify(self, scope: Scope, access: Access) -> Caller:
        """Return the owner of the key; raise 401 (missing or invalid key) or 403 (missing scope)."""
        key = None if access.is_open else _sent_key(scope["headers"])
        if key is not None:
            return self._checked(key, access.scopes)
        if access.is_open or access.is_optional:
            return self._others.identify(scope, access)
        raise Refused(
            "missing_key",
            "send a key in the header `authorization: Bearer ...` or `x-api-key`",
            field="authorization",
            headers=[(b"www-authenticate", _CHALLENGE)],
        )

    def _checked(self, key: str, needed: frozenset[str]) -> Caller:
        known = self._keys.find(key)
        if known is None:
            is_typo = not is_well_formed(key)
            why = "is mistyped or cut off: its checksum is wrong" if is_typo else "is not known here"
            _refuse("wrong_key", f"the key {why}")
        if self._keys.is_expired(known):
            _refuse("expired_key", "the key has expired")
        if needed and known.scopes.isdisjoint(needed):
            scopes = " ".join(sorted(needed - {"admin"}))
            challenge = b'%s, error="insufficient_scope", scope="%s"' % (_CHALLENGE, scopes.encode())
            raise Refused(
                "missing_scope",
                f"the key lacks a scope that opens this path: {scopes.replace(' ', ' or ')}",
                field="authorization",
                headers=[(b"www-authenticate", challenge)],
            )
        return known.caller


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _refuse(code: str, message: str) -> NoReturn:
    challenge = (b"www-authenticate", _CHALLENGE + b', error="invalid_token"')
    raise Refused(code, message, field="authorization", headers=[challenge])


def _sent_key(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the key of the first header that may carry one; other credentials are ignored."""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
        if name == b"x-api-key":
            return value.strip().decode("latin-1")
    return None


def _known(records: Iterable[KeyRecord]) -> dict[str, ApiKeyGrant]:
    return {
        record.sha256: ApiKeyGrant(
            Caller(record.name, limited_as=record.name, is_admin="admin" in record.scopes),
            frozenset(record.scopes),
            _nanoseconds(record.expires_at) if record.expires_at else float("inf"),
        )
        for record in records
    }


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
