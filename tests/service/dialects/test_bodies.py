"""The structs that read bodies accept what the documented models accept, and read the same values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tamis.errors import InputError
from tamis.service.dialects.bodies import struct_of
from tamis.service.dialects.hugging_face import PredictBody, TextClassificationBody
from tamis.service.dialects.kserve_v1 import InstancesBody
from tamis.service.dialects.mlflow import InvocationsBody
from tamis.service.dialects.open_inference import InferBody
from tamis.service.dialects.openai import ClassifyBody, ModerationsBody
from tamis.service.request_body import parse_json
from tests.support.fuzzing import CASES

_TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], "parameters": {"a": 1.5}}
VALID: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (InferBody, {"id": "7", "inputs": [_TENSOR], "outputs": [{"name": "score", "parameters": {"k": 1}}]}),
    (InstancesBody, {"instances": ["a", {"text": "b"}]}),
    (PredictBody, {"inputs": ["a", ["b"]], "truncate": None, "truncation_direction": "left"}),
    (TextClassificationBody, {"inputs": "a", "parameters": {"top_k": 1, "function_to_apply": "none"}}),
    (InvocationsBody, {"inputs": ["a", {"text": 1}], "params": {"a": [1]}}),
    (InvocationsBody, {"inputs": {"text": ["a"]}, "dataframe_records": [{"text": "a"}]}),
    (InvocationsBody, {"dataframe_split": {"columns": ["text"], "data": [["a", 1]]}}),
    (ClassifyBody, {"model": "a", "input": ["a"]}),
    (ModerationsBody, {"input": ["a", {"type": "text", "text": "b"}]}),
]
_VALUES = st.recursive(
    st.sampled_from([None, True, "", "text", -1, 0, 1.0, 2**63, 1e300]),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=9,
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every list or object in a document with each of its keys."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


@st.composite
def _documents(draw: st.DrawFn) -> tuple[type[BaseModel], Any]:
    """Return a model and a document of it in which up to two values are replaced or removed."""
    model, valid = draw(st.sampled_from(VALID))
    document = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(0, 2))):
        container, key = draw(st.sampled_from([*_places(document)] or [({"": 0}, "")]))
        if isinstance(container, dict) and draw(st.booleans()):
            del container[key]
        else:
            container[key] = draw(_VALUES)
    return model, document


@settings(max_examples=CASES)
@given(_documents())
def test_a_struct_accepts_what_its_model_accepts(drawn: tuple[type[BaseModel], Any]) -> None:
    model, document = drawn
    try:
        expected: Any = model.model_validate(document).model_dump()
    except pydantic.ValidationError:
        expected = None
    try:
        read = msgspec.to_builtins(msgspec.convert(document, struct_of(model)))
    except msgspec.ValidationError:
        read = None
    assert read == expected and repr(read and sorted(read)) == repr(expected and sorted(expected))


def test_a_constraint_that_a_struct_cannot_have_is_refused() -> None:
    class Body(BaseModel):
        text: Annotated[str, Field(pattern="^a$", strict=False)]

    with pytest.raises(TypeError, match="no constraint"):
        struct_of(Body)


_SPACE = st.sampled_from(["", " ", "\n\t"])
_TEXTS = st.sampled_from(["a", "b", ":", '":', "a :", '\\":"', "\u00e9", '"a":1'])


def _written(draw: st.DrawFn, depth: int) -> str:
    """Return an object as JSON, any of its names twice, with any space around its colons."""
    fields = []
    for _ in range(draw(st.integers(0, 3))):
        value = json.dumps(draw(_TEXTS), ensure_ascii=draw(st.booleans()))
        if depth and draw(st.booleans()):
            value = f"[{_written(draw, depth - 1)}, {value}]"
        fields.append(f"{json.dumps(draw(_TEXTS))}{draw(_SPACE)}:{draw(_SPACE)}{value}")
    return "{" + ",".join(fields) + "}"


@settings(max_examples=CASES)
@given(st.composite(_written)(depth=2))
def test_names_that_are_given_twice_are_always_found(written: str) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    try:
        expected = json.loads(written, object_pairs_hook=unique)
    except AssertionError:
        with pytest.raises(InputError, match="duplicate field"):
            parse_json(written.encode())
    else:
        assert parse_json(written.encode()) == expected
