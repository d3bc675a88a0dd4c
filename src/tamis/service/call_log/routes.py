"""What answers at the paths of the call log. Knows parameters, forms and the store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec import UNSET
from starlette.types import ASGIApp, Receive, Scope

from tamis.service.answers import json_answer
from tamis.service.call_log.forms import FORMS, RecentJson
from tamis.service.call_log.parameters import call_query, format_of, read_parameters
from tamis.service.call_log.schemas import CallFilter, HourlyCount, LogParameters, LogSummary
from tamis.service.call_log.stream import CallStream
from tamis.service.callers import CALLER
from tamis.service.requests import query_values
from tamis.service.routing import Handler
from tamis.storage import CallQuery, Store

JSON_LIMIT = 100
"""Calls of a JSON answer where the caller names no limit."""


class LogRoutes:
    """The routes that read the call log."""

    def __init__(self, store: Store, this_hour: Callable[[], datetime]):
        """Take the store and what tells the UTC hour in which a call is logged now."""
        self._store, self._this_hour = store, this_hour

    async def recent(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /recent_log`: always the caller's own calls, also for an admin."""
        query_values(scope["query_string"], frozenset())
        hour = self._this_hour()
        query = CallQuery(caller=scope[CALLER].name, since=hour, until=hour + timedelta(hours=1))
        return await CallStream(self._store, query, RecentJson()).started()

    async def log(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /log`."""
        wanted = read_parameters(scope, LogParameters)
        query = call_query(wanted, scope[CALLER], newest_first=wanted.order == "newest")
        form = FORMS[format_of(wanted, scope)]()
        unlimited = None if form.is_whole else JSON_LIMIT
        limit = unlimited if wanted.limit is UNSET else wanted.limit
        stream = CallStream(self._store, query, form, limit=limit)
        return await stream.started(None if wanted.cursor is UNSET else wanted.cursor)

    async def summary(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Answer `GET /log/summary`."""
        counts = await self._store.summary(call_query(read_parameters(scope, CallFilter), scope[CALLER]))
        return json_answer(LogSummary([HourlyCount(one.hour, one.label, one.count) for one in counts]))


def log_handlers(routes: LogRoutes) -> dict[str, dict[str, Handler]]:
    """Return the handlers of the call log, by path and method."""
    return {
        "/recent_log": {"GET": routes.recent},
        "/log": {"GET": routes.log},
        "/log/summary": {"GET": routes.summary},
    }
