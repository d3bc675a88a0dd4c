"""Dialects answer alike whether their routes are found directly or by the router (TAMIS_FAST_PATH)."""

from __future__ import annotations

from typing import Any

import pytest

from tamis.settings import Settings
from tests.support.dialect_requests import ROUTES, Route, names
from tests.support.serving import client_of, make_app

_VOLATILE = ("date", "x-request-id", "x-total-time", "x-inference-time", "x-compute-time", "x-queue-time")


async def _answers(route: Route, *, fast_path: bool) -> list[Any]:
    found = []
    async with client_of(make_app(Settings(fast_path=fast_path, max_texts=5))) as client:
        for body in (route.body(["win"]), {}, [], {"inputs": ["a", 1]}):
            response = await client.post(route.path, json=body, headers=dict(route.headers))
            document = response.json()
            for name in ("id", "created") if isinstance(document, dict) else ():
                document.pop(name, None)
            headers = {name for name in response.headers if name not in _VOLATILE}
            found.append([response.status_code, sorted(headers), document])
        for method, path in (("PUT", route.path), ("POST", f"{route.path}/x"), ("POST", f"/x{route.path}")):
            response = await client.request(method, path, json={})
            found.append([response.status_code, response.headers.get("allow"), response.json()])
        page = (await client.get("/metrics")).text
    counts = [
        line for line in page.splitlines() if line.startswith(("http_requests_total", "tamis_refusals"))
    ]
    return [*found, sorted(counts)]


@pytest.mark.parametrize("route", ROUTES, ids=names(ROUTES))
async def test_both_paths_of_a_dialect_answer_alike(route: Route) -> None:
    assert await _answers(route, fast_path=True) == await _answers(route, fast_path=False)
