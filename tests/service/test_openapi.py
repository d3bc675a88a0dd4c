"""The document is valid, matches the routes, and every route keeps what it promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tamis.inference.classifier import Classifier
from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.catalog import DIALECTS
from tamis.settings import Settings
from tests.support.cursors import register_cursors
from tests.support.fuzzing import CASES, asked, figures  # noqa: F401 - a fixture of this module
from tests.support.scorers import WatchedScorer, classifier_with
from tests.support.serving import make_app

LINES = ("application/x-ndjson", "text/csv")
Ask = Callable[..., httpx.Response]

_SMALL = Settings(api_name="Sieve", max_body_bytes=1_000, max_text_chars=77, max_texts=3)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_app(_SMALL).openapi()


def test_document_is_what_the_service_gives(ask: Ask) -> None:
    served = ask("GET", "/openapi.json").json()
    assert served["openapi"] == "3.1.0"
    assert served["info"]["title"] == "Tamis"


def test_explanation_example_is_made_with_the_document() -> None:
    scorer = WatchedScorer()
    app = make_app(_SMALL, classifier_with(scorer))
    at_start = len(scorer.texts)
    example = app.openapi()["paths"]["/explanation"]["post"]["responses"]["200"]["content"]
    assert example["application/json"]["example"]["tokens"]
    assert at_start <= len(EXAMPLE_TEXTS) < len(scorer.texts), "an occlusion scores a text once per token"


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(document | {"paths": []}).validate()


def test_every_schema_is_valid_json_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_route_is_documented_and_answers(ask: Ask, document: dict[str, Any]) -> None:
    """`405` tells the methods of a path: the document must name the same ones."""
    for path, operations in document["paths"].items():
        allowed = set(ask("BREW", path).headers["allow"].split(", ")) - {"HEAD"}
        assert {method.upper() for method in operations} == allowed


def test_every_accepted_type_is_named_by_415(ask: Ask, document: dict[str, Any]) -> None:
    """In the message of the route and in its documentation."""
    names = {"application/json": "JSON", "application/x-ndjson": "NDJSON", "text/csv": "CSV"}
    for path, operations in document["paths"].items():
        operation = operations.get("post", {})
        accepted = operation.get("requestBody", {}).get("content", {})
        url = path.replace("{model}", "keywords").replace("{name}", "keywords").replace("{version}", "3")
        refused = ask("POST", url, content=b"hi", headers={"content-type": "text/plain"})
        for media_type in accepted:
            assert refused.status_code == 415 and media_type in refused.text, path
            assert names[media_type] in operation["responses"]["415"]["description"], path


def test_labels_and_limits_are_in_the_document(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    scores = schemas["PredictionBody"]["properties"]["prediction"]
    assert list(scores["properties"]) == scores["required"] == ["ham", "spam"]
    assert scores["additionalProperties"] is False
    assert schemas["Top"]["properties"]["label"]["enum"] == ["ham", "spam"]
    assert schemas["PredictionBody"]["properties"]["decision"]["enum"] == ["ham", "spam"]
    assert schemas["PredictionRequest"]["properties"]["text"]["maxLength"] == 77
    assert schemas["PredictionsRequest"]["properties"]["texts"]["maxItems"] == 3
    assert schemas["PredictionsRequest"]["properties"]["texts"]["items"]["maxLength"] == 77


def test_examples_are_the_services_own_answers(ask: Ask) -> None:
    document = ask("GET", "/openapi.json").json()
    for path in ["/prediction", "/predictions"]:
        operation = document["paths"][path]["post"]
        [example] = operation["requestBody"]["content"]["application/json"]["examples"].values()
        request = example["value"]
        answer = operation["responses"]["200"]["content"]["application/json"]["example"]
        assert _without_ids(ask("POST", path, json=request | {"skip_cache": True}).json()) == _without_ids(
            answer
        )


def _without_ids(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_without_ids(one) for one in answer]
    return {name: value for name, value in answer.items() if name != "id"}


def test_the_title_lists_few_labels_and_counts_many() -> None:
    many = make_app(classifier=Classifier.mock([f"l{n}" for n in range(30)])).openapi()
    assert many["info"]["description"].endswith("l9 or 20 more labels.")


# Limits that generated texts come near to; no limit on the body, which the document cannot express.
_LIMITED = Settings(max_body_bytes=1 << 30, max_text_chars=50, max_texts=5)
register_cursors()
schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(_LIMITED))


@schema.exclude(tag=[dialect.title for dialect in DIALECTS]).parametrize()
@settings(max_examples=max(CASES // 4, 1), deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route_keeps_its_promises_for_generated_requests(case: schemathesis.Case) -> None:
    # to a schema a body of lines is any text: test_line_streams.py generates valid and broken lines
    unchecked = [positive_data_acceptance, negative_data_rejection] if case.media_type in LINES else []
    case.call_and_validate(excluded_checks=unchecked)
    asked[f"{case.method} {case.path}"] += 1
