"""What the document says of keys and limits holds, for generated requests too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tamis.service.dialects.catalog import DIALECTS
from tamis.service.security.api_keys import KeyFile, KeyRecord, hash_of, new_key
from tamis.settings import Settings
from tests.support.serving import make_app

KEY = new_key()
OPEN = {"/health/live", "/health/ready"}
LOG = {"/recent_log", "/log", "/log/summary", "/feedback"}


def _document(**chosen: Any) -> dict[str, Any]:
    return make_app(Settings(**chosen)).openapi()


@pytest.fixture
def with_keys(tmp_path: Path) -> dict[str, Any]:
    KeyFile(tmp_path / "keys.json").add(KeyRecord("schema", hash_of(KEY), ["admin"], datetime.now(UTC)))
    return _document(require_keys=True, keys_file=str(tmp_path / "keys.json"))


@pytest.fixture
def with_limits(tmp_path: Path) -> dict[str, Any]:
    return _document(rate_per_minute=60, rate_file=str(tmp_path / "rates.tamis"))


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the native operations; dialects/test_contract.py has the others."""
    dialects = {dialect.title for dialect in DIALECTS}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if dialects.isdisjoint(operation["tags"]):
                yield path, operation


@pytest.mark.parametrize("name", ["with_keys", "with_limits"])
def test_document_is_valid_when_guarded(name: str, request: pytest.FixtureRequest) -> None:
    schemathesis.openapi.from_dict(request.getfixturevalue(name)).validate()


def test_document_has_no_keys_or_limits_when_both_are_off() -> None:
    for path, operation in _operations(_document()):
        assert "security" not in operation
        assert "401" not in operation["responses"], path
        assert ("429" in operation["responses"]) == (path in LOG), "a caller's reads are limited always"


def test_every_closed_route_names_its_schemes_and_refusals(with_keys: dict[str, Any]) -> None:
    assert set(with_keys["components"]["securitySchemes"]) == {"bearer", "header"}
    for path, operation in _operations(with_keys):
        if path in OPEN:
            assert "security" not in operation
            continue
        assert {"bearer": []} in operation["security"] and {"header": []} in operation["security"]
        assert ({} in operation["security"]) == (path == "/"), "only there a key is optional"
        assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    refusal = with_keys["paths"]["/prediction"]["post"]["responses"]["403"]
    assert "admin or predict" in refusal["description"]


def test_routes_that_count_texts_say_so_with_their_headers(with_limits: dict[str, Any]) -> None:
    refusing = [path for path, operation in _operations(with_limits) if "429" in operation["responses"]]
    counted = [path for path in refusing if path not in LOG]
    routes = ["/prediction", "/prediction", "/predictions"]
    prefixes = ["", "/models/{model}", "/models/{model}/versions/{version}"]
    expected = [prefix + route for prefix in prefixes for route in routes]
    assert sorted(counted) == sorted([*expected, *(f"{prefix}/explanation" for prefix in prefixes)])
    responses = with_limits["paths"]["/predictions"]["post"]["responses"]
    assert set(responses["200"]["headers"]) == {"RateLimit", "RateLimit-Policy"}
    assert set(responses["429"]["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}


def test_every_operation_documents_the_connections_errors() -> None:
    for path, operation in _operations(_document()):
        assert {"400", "408", "431", "501", "503"} <= operation["responses"].keys(), path
        assert "Retry-After" in operation["responses"]["503"]["headers"], path


@pytest.fixture
def guarded(tmp_path: Path) -> Any:
    """A service that asks for keys and lets few texts in."""
    keys_file, rate_file = tmp_path / "keys.json", tmp_path / "rates.tamis"
    KeyFile(keys_file).add(KeyRecord("schema", hash_of(KEY), ["admin"], datetime.now(UTC)))
    chosen = Settings(
        require_keys=True,
        keys_file=str(keys_file),
        rate_per_minute=60,
        rate_burst=20,
        rate_file=str(rate_file),
        max_body_bytes=1 << 30,
        max_text_chars=50,
        max_texts=5,
    )
    return schemathesis.openapi.from_asgi("/openapi.json", make_app(chosen))


@pytest.mark.parametrize("key", ["", KEY], ids=["without a key", "with a key"])
def test_every_route_keeps_its_promises_when_guarded(guarded: Any, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    # which requests are valid is test_openapi's; the other one's probe without a key would send these headers
    excluded = [positive_data_acceptance, *([ignored_auth] if key else [])]
    for operation in guarded.exclude(tag=[dialect.title for dialect in DIALECTS]).get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        def promises(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=headers, excluded_checks=excluded)

        promises()
