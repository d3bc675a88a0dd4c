"""V2's tensors: binary parts both ways, shapes, outputs; anything invalid is a 400 in V2's envelope."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.errors import InputError
from tamis.service.dialects.tensors import bytes_of, texts_of_bytes
from tests.support.fuzzing import CASES

Ask = Callable[..., httpx.Response]
PATH = "/v2/models/keywords/infer"
TEXTS = ["win a phone", "caf\u00e9 \U0001f35c", ""]


def _packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def _binary(ask: Ask, document: Any, tail: bytes, length: Any = None) -> httpx.Response:
    head = json.dumps(document).encode()
    declared = str(len(head) if length is None else length)
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": declared}
    return ask("POST", PATH, content=head + tail, headers=headers)


def _tensor(size: Any, **changes: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"name": "text", "shape": [3], "datatype": "BYTES", "parameters": parameters} | changes


def test_binary_tensors_answer_as_json_ones(ask: Ask) -> None:
    data = _packed(TEXTS)
    request = {"id": "7", "inputs": [_tensor(len(data))], "parameters": {"binary_data_output": True}}
    response = _binary(ask, request, data)
    length = int(response.headers["inference-header-content-length"])
    head, tail = json.loads(response.content[:length]), response.content[length:]
    assert (head["id"], response.headers["content-type"]) == ("7", "application/octet-stream")
    sizes = [one["parameters"]["binary_data_size"] for one in head["outputs"]]
    assert sum(sizes) == len(tail)
    plain = ask("POST", PATH, json={"inputs": [_tensor(0, parameters={}, data=TEXTS)]}).json()
    label, score, decision = plain["outputs"]
    assert texts_of_bytes(tail[: sizes[0]], [3], "label") == label["data"]
    assert [*struct.unpack("<6d", tail[sizes[0] : sizes[0] + sizes[1]])] == score["data"]
    assert texts_of_bytes(tail[sizes[0] + sizes[1] :], [3], "decision") == decision["data"]


def test_a_body_without_json_is_one_text(ask: Ask) -> None:
    response = _binary(ask, {}, b"", length=0)  # the body is the two bytes {}
    assert response.status_code == 200 and response.headers["inference-header-content-length"]


@pytest.mark.parametrize("shape", [[1], [1, 1], [], [5]])
def test_shapes_of_one_text_that_clients_send_are_accepted(ask: Ask, shape: list[int]) -> None:
    tensor = _tensor(0, parameters={}, shape=shape, data=["x"])
    assert ask("POST", PATH, json={"inputs": [tensor]}).status_code == 200


def test_classification_ranks_labels_as_triton_does(ask: Ask) -> None:
    outputs = [{"name": "score", "parameters": {"classification": 9}}]
    tensor = _tensor(0, parameters={}, shape=[1], data=["win"])
    [found] = ask("POST", PATH, json={"inputs": [tensor], "outputs": outputs}).json()["outputs"]
    assert found == {
        "name": "score",
        "datatype": "BYTES",
        "shape": [1, 2],
        "data": ["0.666667:1:spam", "0.333333:0:ham"],
    }


@pytest.mark.parametrize("size", [-1, 0, 1, 2**31, 2**63, 24, 26, True, "25", 25.0])
def test_a_wrong_binary_size_is_refused(ask: Ask, size: Any) -> None:
    data = _packed(["hunter2", "b", "c"])  # 21 bytes
    response = _binary(ask, {"inputs": [_tensor(size)]}, data)
    assert response.status_code == 400 and "inputs" in response.json()["error"]
    assert "hunter2" not in response.text


@pytest.mark.parametrize("length", [-1, 1, 10**6, 2**31, "x", "", "1" * 30])
def test_a_wrong_header_length_is_refused(ask: Ask, length: Any) -> None:
    response = _binary(ask, {"inputs": [_tensor(0)]}, b"hunter2", length=length)
    assert response.status_code in {400, 415} and "hunter2" not in response.text


@pytest.mark.parametrize(
    "change",
    [
        {"datatype": "FP32"},
        {"datatype": "bytes"},
        {"shape": [2]},
        {"shape": [3, 2]},
        {"shape": [-1]},
        {"shape": [-1, -3]},
        {"shape": [2**63]},
        {"shape": [1] * 9},
        {"shape": "3"},
        {"data": [1, 2, 3]},
        {"data": {"a": 1}},
        {"data": None},
        {"data": [["a"], [["b"]], [[[[[[[[[["c"]]]]]]]]]]]},
        {"name": 1},
        {"parameters": {"content_type": "base64"}},
        {"parameters": {"a": [1]}},
    ],
    ids=str,
)
def test_a_wrong_tensor_is_refused_by_name(ask: Ask, change: dict[str, Any]) -> None:
    tensor = _tensor(0, parameters={}, data=["hunter2", "b", "c"]) | change
    response = ask("POST", PATH, json={"inputs": [tensor]})
    assert response.status_code == 400 and "inputs" in response.json()["error"], response.text
    assert "hunter2" not in response.text


@pytest.mark.parametrize(
    "outputs",
    [
        [{"name": "hunter2"}],
        [{"name": "score", "parameters": {"classification": 0}}],
        [{"name": "score", "parameters": {"classification": True}}],
        [{"name": "label", "parameters": {"classification": 1}}],
        [{"name": "label"}] * 9,
    ],
    ids=str,
)
def test_wrong_outputs_are_refused(ask: Ask, outputs: Any) -> None:
    tensor = _tensor(0, parameters={}, shape=[1], data=["x"])
    response = ask("POST", PATH, json={"inputs": [tensor], "outputs": outputs})
    assert response.status_code == 400 and "outputs" in response.json()["error"]
    assert "hunter2" not in response.text


@given(st.lists(st.text(max_size=20), min_size=1, max_size=9))
def test_texts_survive_their_bytes(texts: list[str]) -> None:
    assert texts_of_bytes(bytes_of(texts), [len(texts)], "text") == texts


@settings(max_examples=CASES)
@given(st.binary(max_size=64), st.lists(st.integers(-3, 2**40), max_size=4))
def test_any_bytes_are_texts_or_an_input_error(data: bytes, shape: list[int]) -> None:
    try:
        texts = texts_of_bytes(data, shape, "text")
    except InputError as refused:
        assert refused.code == "wrong_type"
    else:
        assert _packed(texts) == data


@settings(max_examples=CASES, deadline=None)
@given(head=st.binary(max_size=200), tail=st.binary(max_size=60), size=st.integers(-2, 70))
def test_any_body_in_two_parts_is_answered(ask: Ask, head: bytes, tail: bytes, size: int) -> None:
    """Random bytes, and a well-formed head before random bytes."""
    for document in (head, json.dumps({"inputs": [_tensor(size, shape=[1])]}).encode()):
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(document)),
        }
        response = ask("POST", PATH, content=document + tail, headers=headers)
        assert response.status_code in {200, 400}
