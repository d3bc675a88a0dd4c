"""The routes of API keys for admins: list and revoke.

Keys are created only by `tamis keys create`: over HTTP a new key would pass through browsers and proxies, and
a stolen admin key could create others that outlast its own revocation.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from tamis.clock import Clock
from tamis.errors import InputError, SettingsError
from tamis.service.api.models import require_admin
from tamis.service.api.route import Requires, errors
from tamis.service.bodies import KeysResponse, RevokedKeysResponse
from tamis.service.responses import json_response
from tamis.service.security.api_keys import KeyFile, KeyRecord
from tamis.service.security.client_identity import ADMIN, CALLER


def add_key_routes(router: APIRouter, file: KeyFile, clock: Clock) -> None:
    """Add `/keys` to the application's router."""
    options: dict[str, Any] = {"tags": ["keys"], "dependencies": [Depends(Requires(ADMIN))]}

    @router.get(
        "/keys",
        response_model=KeysResponse,
        summary="List the API keys",
        responses=errors(403, 503),
        **options,
    )
    async def list_keys(request: Request) -> Response:
        """Names, scopes and times; the keys themselves are not stored."""
        require_admin(request)
        now = datetime.fromtimestamp(clock.utc_ns() / 1e9, UTC)
        return json_response({"keys": [_described(key, now) for key in await _read(file)]})

    @router.delete(
        "/keys/{name}",
        response_model=RevokedKeysResponse,
        summary="Revoke all keys of a name",
        responses=errors(403, 404, 422, 503),
        **options,
    )
    async def revoke_keys(
        name: Annotated[str, Path(description="As in `GET /keys`.", examples=["newsroom"])], request: Request
    ) -> Response:
        """Workers refuse them within a second. Your own are revoked on the server: `tamis keys revoke`."""
        require_admin(request)
        if name == request.scope[CALLER].name:  # an admin must not lock itself out by mistake
            message = "these are your own keys; revoke them on the server by `tamis keys revoke`"
            raise InputError("own_key", message, field="name")
        # looked up first: `remove` reports an unknown name by the same error as an unusable file
        if all(key.name != name for key in await _read(file)):
            raise InputError("key_not_found", "no key has this name; GET /keys lists them", field="name")
        try:
            revoked = await asyncio.to_thread(file.remove, name)
        except (OSError, SettingsError):
            message = "the file of API keys cannot be changed by the service; use `tamis keys revoke`"
            raise InputError("keys_unavailable", message, field="name") from None
        return json_response({"name": name, "revoked": revoked})


async def _read(file: KeyFile) -> list[KeyRecord]:
    try:
        return list(await asyncio.to_thread(file.read))
    except SettingsError:  # its message contains a path of the server
        message = "the file of API keys cannot be read; see the log of the service"
        raise InputError("keys_unavailable", message, field="keys") from None


def _described(key: KeyRecord, now: datetime) -> dict[str, Any]:
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "is_expired": key.expires_at is not None and key.expires_at <= now,
    }
