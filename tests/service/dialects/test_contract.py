"""One suite for all dialects: the same answers as the native route, and the dialect's own errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tamis.inference.classifier import Classifier
from tamis.service.dialects.catalog import DIALECTS
from tamis.service.dialects.routes import DialectRoute
from tamis.service.security.api_keys import KeyFile, KeyRecord, hash_of, new_key
from tamis.service.telemetry.metric_definitions import DIALECTS as COUNTED
from tamis.settings import Settings
from tamis.storage import LogQuery, make_store
from tests.support.dialect_requests import ROUTES, Route, are_equal, names
from tests.support.fakes import ManualClock, keyword_classifier
from tests.support.scorers import WatchedScorer
from tests.support.serving import client_of, make_app

Ask = Callable[..., httpx.Response]
every_route = pytest.mark.parametrize("route", ROUTES, ids=names(ROUTES))

SECRET = "hunter2"
TENSOR = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
TEXTS = ["win a free phone", "lunch tomorrow?", "cafe\u0301 \U0001f35c", ""]


@every_route
def test_answers_are_the_native_ones(ask: Ask, route: Route) -> None:
    texts = TEXTS if route.can_batch else TEXTS[:1]
    response = ask("POST", route.path, json=route.body(texts))
    assert response.status_code == 200, response.text
    native = ask("POST", "/predictions", json={"texts": texts}).json()
    answers = route.scores(response.json())
    assert len(answers) == len(texts)
    assert all(are_equal(one, other["prediction"]) for one, other in zip(answers, native, strict=True))


@every_route
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", {400, 422}),
        (b"{hunter2", {400, 422}),
        (b"null", {400, 422}),
        (b'["hunter2"]', {400, 422}),
        (b'{"inputs": "hunter2", "inputs": "b"}', {400, 422}),
        (b"[" * 1_900, {400, 422}),
        (b'{"inputs": ' + b"[" * 1_900, {400, 422}),
        (b'{"inputs": 1e999, "instances": 1, "input": 1}', {400, 422}),
        (b'{"inputs": "\\ud83d", "instances": ["\\ud83d"], "input": "\\ud83d"}', {400, 422}),
        (b'{"inputs": [1], "instances": [1], "input": [1]}', {400, 422}),
        (b'{"inputs": {"a": [1]}, "instances": {}, "input": {}}', {400, 422}),
        (b'{"inputs": [["a", null]], "instances": [["a"]], "input": [["a"]]}', {400, 422}),
        (b'{"inputs": [], "instances": [], "input": []}', {400, 422}),
        (b'{"inputs": [' + b'"x",' * 450 + b'"x"]}', {400, 422}),
        (b'{"x": "' + b"hunter2" * 400 + b'"}', {413}),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_invalid_bodies_get_the_dialects_error(ask: Ask, route: Route, body: bytes, status: set[int]) -> None:
    response = ask("POST", route.path, content=body, headers={"content-type": "application/json"})
    assert response.status_code in status, response.text
    assert route.error(response.json())
    assert SECRET not in response.text


@every_route
def test_limits_are_the_services_own(ask: Ask, route: Route) -> None:
    """The fixture's service takes 5 texts of 100 characters."""
    too_long = ask("POST", route.path, json=route.body([SECRET * 15]))
    assert too_long.status_code in {400, 422} and "100 characters" in route.error(too_long.json())
    if route.can_batch:
        too_many = ask("POST", route.path, json=route.body([SECRET] * 6))
        assert too_many.status_code in {400, 422} and "5 texts" in route.error(too_many.json())
        none = ask("POST", route.path, json=route.body([]))
        assert none.status_code in {400, 422} and route.error(none.json())
        assert SECRET not in too_many.text + too_long.text


@every_route
def test_other_content_types_and_methods_are_refused(ask: Ask, route: Route) -> None:
    wrong = ask("POST", route.path, content=b"{}", headers={"content-type": "text/plain"})
    assert wrong.status_code == 415 and "content-type" in route.error(wrong.json())
    method = ask("PUT", route.path)
    assert method.status_code == 405 and "POST" in method.headers["allow"]
    foreign = ask("POST", route.path, content=b"{}", headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403 and route.error(foreign.json())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/hunter2/infer", TENSOR),
        ("/v2/models/keywords/versions/hunter2/infer", TENSOR),
        ("/v1/models/hunter2:predict", {"instances": ["x"]}),
        ("/v1/models/keywords@hunter2:predict", {"instances": ["x"]}),
        ("/hf/models/hunter2", {"inputs": "x"}),
        ("/classify", {"model": "hunter2", "input": "x"}),
        ("/v1/moderations", {"model": "keywords@hunter2", "input": "x"}),
    ],
)
def test_unknown_models_and_versions_are_not_found(ask: Ask, path: str, body: Any) -> None:
    response = ask("POST", path, json=body)
    assert response.status_code == 404, response.text
    assert SECRET not in response.text


async def test_one_text_is_computed_cached_and_logged_once_per_call() -> None:
    clock, scorer = ManualClock(), WatchedScorer()
    classifier = Classifier(scorer, ("ham", "spam"), name="keywords", version="3", identity="f" * 64)
    store = make_store("memory:", clock)
    app = make_app(Settings(share_cache=True), classifier, store=store, clock=clock)
    async with client_of(app) as client:
        scorer.batches.clear()  # what the examples of the documentation took
        await client.post("/prediction", json={"text": TEXTS[0]})
        for route in ROUTES:
            response = await client.post(route.path, json=route.body(TEXTS[:1]))
            assert response.status_code == 200, response.text
        page = (await client.get("/metrics")).text
        logged = (await store.log.read(LogQuery(), limit=100)).rows
    assert len(scorer.texts) == 1
    assert [call.text for call in logged] == TEXTS[:1] * (len(ROUTES) + 1)
    assert sum(not call.from_cache for call in logged) == 1
    for name in COUNTED:
        count = sum(route.dialect == name for route in ROUTES)
        assert f'tamis_dialect_requests_total{{dialect="{name}"}} {count}\n' in page


async def test_keys_and_rate_limits_hold_for_every_dialect(tmp_path: Any) -> None:
    keys = tmp_path / "keys.json"
    KeyFile(keys).add(KeyRecord("ops", hash_of(new_key()), ["log"], datetime.now(UTC)))
    settings = Settings(rate_per_minute=60, rate_burst=1, rate_file=str(tmp_path / "rates"))
    async with client_of(make_app(settings, clock=ManualClock())) as client:
        await client.post("/prediction", json={"text": "first"})
        for route in ROUTES:
            refused = await client.post(route.path, json=route.body(["second"]))
            assert refused.status_code == 429 and refused.headers["retry-after"]
            assert route.error(refused.json())
    async with client_of(make_app(Settings(require_keys=True, keys_file=str(keys)))) as client:
        for route in ROUTES:
            refused = await client.post(route.path, json=route.body(["text"]))
            assert refused.status_code == 401 and refused.headers["www-authenticate"]
            assert route.error(refused.json())


async def test_dialects_can_be_switched_off() -> None:
    async with client_of(make_app(Settings(dialects="v1,tei"))) as client:
        for route in ROUTES:
            status = (await client.post(route.path, json=route.body(["x"]))).status_code
            assert (status == 200) == (route.dialect in {"v1", "tei"}), route.path
        assert (await client.get("/v1/models")).status_code == 200
    document = make_app(Settings(dialects="none")).openapi()
    assert not any(tag["name"] == dialect.title for tag in document["tags"] for dialect in DIALECTS)
    assert "/predict" not in document["paths"]


def test_every_dialect_is_named_and_documented() -> None:
    app = make_app()
    document = app.openapi()
    assert tuple(dialect.name for dialect in DIALECTS) == COUNTED
    titles = {dialect.title for dialect in DIALECTS}
    assert titles <= {tag["name"] for tag in document["tags"]}
    for route in app.routes:
        if isinstance(route, DialectRoute):
            for method in route.methods:
                operation = document["paths"][route.path_format][method.lower()]
                assert operation["tags"] == [route.dialect.title]
    identifiers = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(identifiers) == len(set(identifiers))


def test_examples_of_the_document_are_answered(ask: Ask) -> None:
    document = make_app(classifier=keyword_classifier()).openapi()
    titles = {dialect.title for dialect in DIALECTS}
    for path, operations in document["paths"].items():
        posted = operations.get("post", {"tags": []})
        content = posted.get("requestBody", {}).get("content", {}) if titles & {*posted["tags"]} else {}
        for example in content.get("application/json", {}).get("examples", {}).values():
            url = path.format(model="keywords", version="3")
            response = ask("POST", url, json=example["value"])
            assert response.status_code == 200, (path, response.text)
