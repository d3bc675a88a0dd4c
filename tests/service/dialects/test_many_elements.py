"""A million elements in one request of any dialect: refused by the limits, in the dialect's own envelope."""

from __future__ import annotations

import json
import struct

import pytest

from tamis.settings import Settings
from tests.support.dialect_requests import ROUTES, Route, names
from tests.support.serving import client_of, make_app

_MILLION = ["hunter2"] * 1_000_000
_LARGE = Settings(max_body_bytes=1 << 28)
_LISTS = [*{route.path: route for route in ROUTES if route.can_batch}.values()]


@pytest.mark.parametrize("route", _LISTS, ids=names(_LISTS))
async def test_a_million_texts_are_refused_in_its_envelope(route: Route) -> None:
    body = json.dumps(route.body(_MILLION)).encode()
    headers = {"content-type": "application/json", **route.headers}
    async with client_of(make_app(_LARGE)) as client:
        refused = await client.post(route.path, content=body, headers=headers)
        assert refused.status_code in {400, 413, 422}, refused.text[:200]
        assert route.error(refused.json()) and b"hunter2" not in refused.content
        assert (await client.get("/recent_log")).json() == []


async def test_a_million_binary_elements_are_refused() -> None:
    data = struct.pack("<I7s", 7, b"hunter2") * 1_000_000
    tensor = {"name": "text", "shape": [1_000_000], "datatype": "BYTES"}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    async with client_of(make_app(_LARGE)) as client:
        refused = await client.post("/v2/models/keywords/infer", content=head + data, headers=headers)
    assert refused.status_code == 400 and "hunter2" not in refused.text


@pytest.mark.parametrize("depth", [1_000, 100_000])
async def test_a_million_brackets_are_refused(depth: int) -> None:
    bomb = b'{"inputs":' + b"[" * depth + b'"hunter2"' + b"]" * depth + b"}"
    async with client_of(make_app(_LARGE)) as client:
        for route in ROUTES:
            headers = {"content-type": "application/json", **route.headers}
            refused = await client.post(route.path, content=bomb, headers=headers)
            assert refused.status_code in {400, 422} and "hunter2" not in refused.text, route.path
