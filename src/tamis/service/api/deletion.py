"""The route that deletes a caller's rows: `DELETE /log`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from tamis.errors import InputError
from tamis.service.api.log import NoParameters
from tamis.service.api.route import Requires, errors
from tamis.service.bodies import DeletionResponse
from tamis.service.call_log.readers import LogReaders
from tamis.service.responses import json_response
from tamis.service.security.client_identity import CALLER, OWN_LOG, Caller
from tamis.service.security.rate_limit import RateLimiter
from tamis.storage import Store

_TEXT = (
    "Deletes all of your own calls and feedback, for good; with `caller`, a key with the admin scope deletes "
    "those of another caller. The prediction cache has keyed digests and scores, neither texts nor callers: "
    "its entries expire. Backups and exported files are not reached. A deletion counts as one text for the "
    "rate limit."
)


class DeletionParameters(NoParameters):
    """What `DELETE /log` takes."""

    caller: Annotated[
        str | SkipJsonSchema[None],
        Field(description="Delete the rows of this caller; for keys with the admin scope only."),
    ] = None

    def caller_of(self, caller: Caller) -> str:
        """Return whose rows to delete: the caller's own unless an admin names another."""
        if self.caller is None:
            caller.require_own_rows()
            return caller.name
        if not caller.is_admin:
            message = "`caller` is for keys with the admin scope; leave it out to delete your own calls"
            raise InputError("not_admin", message, field="caller")
        return self.caller


def add_deletion_route(
    router: APIRouter, store: Store, readers: LogReaders, limiter: RateLimiter | None
) -> None:
    """Add `DELETE /log` to the application's router."""

    @router.delete(
        "/log",
        response_model=DeletionResponse,
        summary="Delete your calls and feedback",
        description=_TEXT,
        responses=errors(400, 403, 422, 429, 503),
        tags=["call log"],
        dependencies=[Depends(Requires(OWN_LOG))],
    )
    async def delete_log(parameters: Annotated[DeletionParameters, Query()], request: Request) -> Response:
        caller = request.scope[CALLER]
        doomed = parameters.caller_of(caller)
        headers = [] if limiter is None else limiter.take(caller, texts=1).headers
        read = readers.begin(caller.name)  # each deletion empties the WAL: bounded as reads are
        try:
            calls = await store.log.delete_caller(doomed)
            feedback = await store.feedback.delete_caller(doomed)
        finally:
            read.end()
        return json_response({"caller": doomed, "calls": calls, "feedback": feedback}, headers=headers)
