"""The same texts in every dialect, and the labels and scores read back from its response."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Scores = dict[str, float]


@dataclass(frozen=True)
class Route:
    """A route that classifies: `body` makes a request of texts, `scores` reads the response."""

    dialect: str
    path: str
    body: Callable[[Sequence[str]], Any]
    scores: Callable[[Any], list[Scores]]
    error: Callable[[Any], str]
    """Reads the message of an error body, and fails if it is not the dialect's envelope."""
    can_batch: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


def _of_tensors(document: Any) -> list[Scores]:
    outputs = {one["name"]: one for one in document["outputs"]}
    assert outputs["label"]["datatype"] == "BYTES" and outputs["score"]["datatype"] == "FP64"
    count, classes = outputs["score"]["shape"]
    data = outputs["score"]["data"]
    assert outputs["label"]["shape"] == [count] and classes == 2
    return [{"ham": data[2 * row], "spam": data[2 * row + 1]} for row in range(count)]


def _of_pairs(document: Any) -> list[Scores]:
    return [{one["label"]: one["score"] for one in labels} for labels in document]


def _tensor(texts: Sequence[str]) -> Any:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": [*texts]}]}


def _of_predictions(document: Any) -> list[Scores]:
    return [one["scores"] for one in document["predictions"]]


def _of_vllm(document: Any) -> list[Scores]:
    assert document["object"] == "list" and document["id"].startswith("classify-")
    return [dict(zip(["ham", "spam"], one["probs"], strict=True)) for one in document["data"]]


def _text_error(document: Any) -> str:
    assert set(document) == {"error"}
    return str(document["error"])


def _tei_error(document: Any) -> str:
    assert set(document) == {"error", "error_type"}
    return str(document["error"])


def _mlflow_error(document: Any) -> str:
    assert set(document) == {"error_code", "message"}
    return str(document["message"])


def _openai_error(document: Any) -> str:
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return str(document["error"]["message"])


def _frame(texts: Sequence[str]) -> Any:
    return {"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}}


def _mlflow(body: Callable[[Sequence[str]], Any]) -> Route:
    return Route("mlflow", "/invocations", body, _of_predictions, _mlflow_error)


ROUTES = [
    Route("v2", "/v2/models/keywords/infer", _tensor, _of_tensors, _text_error),
    Route("v2", "/v2/models/keywords/versions/3/infer", _tensor, _of_tensors, _text_error),
    Route(
        "v1",
        "/v1/models/keywords:predict",
        lambda texts: {"instances": [*texts]},
        _of_predictions,
        _text_error,
    ),
    Route(
        "v1",
        "/v1/models/keywords@3:predict",
        lambda texts: {"instances": [{"text": text} for text in texts]},
        _of_predictions,
        _text_error,
    ),
    Route(
        "tei",
        "/predict",
        lambda texts: {"inputs": texts[0]},
        lambda found: _of_pairs([found]),
        _tei_error,
        can_batch=False,
    ),
    Route("tei", "/", lambda texts: {"inputs": [[text] for text in texts]}, _of_pairs, _tei_error),
    Route("hf", "/hf", lambda texts: {"inputs": texts[0]}, _of_pairs, _text_error, can_batch=False),
    Route("hf", "/hf/models/keywords", lambda texts: {"inputs": [*texts]}, _of_pairs, _text_error),
    _mlflow(lambda texts: {"inputs": [*texts]}),
    _mlflow(lambda texts: {"inputs": {"text": [*texts]}}),
    _mlflow(lambda texts: {"instances": [*texts]}),
    _mlflow(_frame),
    _mlflow(lambda texts: {"dataframe_records": [{"text": text, "row": 1} for text in texts]}),
    Route("openai", "/classify", lambda texts: {"input": [*texts]}, _of_vllm, _openai_error),
    Route(
        "openai",
        "/v1/classify",
        lambda texts: {"model": "keywords@3", "input": texts[0]},
        _of_vllm,
        _openai_error,
        can_batch=False,
    ),
    Route(
        "openai",
        "/v1/moderations",
        lambda texts: {"model": "keywords", "input": [{"type": "text", "text": text} for text in texts]},
        lambda found: [one["category_scores"] for one in found["results"]],
        _openai_error,
    ),
]


def names(routes: Sequence[Route]) -> list[str]:
    """Return an id for each route of a parametrised test."""
    return [f"{index}-{route.dialect}{route.path.replace('/', '.')}" for index, route in enumerate(routes)]


def are_equal(one: Scores, other: Scores) -> bool:
    """Return whether two answers are the same, digit for digit."""
    return one.keys() == other.keys() and all(
        math.isclose(one[label], other[label], rel_tol=0, abs_tol=0) for label in one
    )
