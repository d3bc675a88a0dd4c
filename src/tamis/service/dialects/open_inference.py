"""The Open Inference Protocol (V2) of KServe, Triton, MLServer and TorchServe.

    body   JSON, or JSON | bytes of each binary input        the header has the length of the JSON part
    texts  one input of type BYTES
    reply  outputs label, score, decision: JSON, or JSON | bytes of each binary output

Tolerant where clients differ: any shape of n texts, flat or nested data, binary tensors in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from msgspec.json import encode as encode_json
from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Answer, Dialect, DialectRequest, TextQuery
from tamis.service.dialects.bodies import TolerantBody
from tamis.service.dialects.repository import DECISION, LABEL, SCORE, TEXT, add_repository_routes
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.dialects.tensors import bytes_of, decoded, texts_of_bytes, texts_of_json, wrong_tensor
from tamis.service.request_body import check_content_type, parse_json
from tamis.service.responses import BytesResponse, Headers, json_response

JSON_LENGTH = b"inference-header-content-length"
BINARY_TYPE = b"application/octet-stream"

Parameters = dict[str, str | bool | int | float]


class InferInput(TolerantBody):
    """An input tensor."""

    name: str
    shape: Annotated[list[int], Field(max_length=8, description="`[n]` or `[n, 1]` for n texts.")]
    datatype: Annotated[str, Field(json_schema_extra={"enum": ["BYTES"]})]
    parameters: Parameters = {}
    data: Annotated[Any, Field(description="The texts, flat or nested; absent if they are binary.")] = None


class InferRequestedOutput(TolerantBody):
    """An output to return."""

    name: str
    parameters: Annotated[
        Parameters,
        Field(description="`binary_data`: as bytes; `classification`: the k most probable labels."),
    ] = {}


class InferBody(TolerantBody):
    """An inference request."""

    id: str | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[InferInput], Field(min_length=1, max_length=8)]
    outputs: Annotated[list[InferRequestedOutput], Field(max_length=8)] | None = None


# MLServer's clients choose the codec of an output by it
_TEXTS: Parameters = {"content_type": "str"}
_DEFAULT_OUTPUTS = [InferRequestedOutput(name=name) for name in (LABEL, SCORE, DECISION)]


class InferOutput(BaseModel):
    """An output tensor."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """An inference response."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters = {}
    outputs: list[InferOutput]


class OpenInferenceError(BaseModel):
    """An error."""

    error: str


class OpenInference(Dialect):
    """V2: tensors in, tensors out."""

    name = "v2"
    title = "Open Inference (V2)"
    description = "For clients of KServe, Triton, MLServer and TorchServe."
    error_model = OpenInferenceError
    formats = "JSON, or as octets if it has a binary part"
    invalid_body_status = 400

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add the inference routes, and those of `repository.py`."""
        tensor = {"name": TEXT, "shape": [2], "datatype": "BYTES", "data": EXAMPLE_TEXTS}
        for path in ("/v2/models/{model:model}", "/v2/models/{model:model}/versions/{version}"):
            routes.classify(
                f"{path}/infer", InferBody, InferResponse, summary="Infer", example={"inputs": [tensor]}
            )
        add_repository_routes(routes)

    def parse(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Any, bytes]:
        """Return the JSON part of a body and its binary part; a JSON part of length 0 is a single text."""
        declared = headers.get(JSON_LENGTH)
        if declared is None:
            return super().parse(headers, body)
        check_content_type(headers, b"", BINARY_TYPE)
        # ten digits are longer than any body, and `int` raises for more than 4,300
        if not (declared.isdigit() and len(declared) < 10 and int(declared) <= len(body)):
            raise wrong_tensor("is not the length of the JSON part", JSON_LENGTH.decode())
        length = int(declared)
        return (parse_json(body[:length]) if length else _raw_text(body)), body[length:]

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts of the input tensor."""
        body: InferBody = request.body
        # before the texts are logged and scored: a response that cannot be encoded would waste both
        _check_outputs(body)
        data = dict(_binary_parts(body.inputs, request.binary))
        index = _text_index(body.inputs)
        tensor, field = body.inputs[index], f"inputs[{index}]"
        if tensor.datatype != "BYTES":
            raise wrong_tensor("must be BYTES", f"{field}.datatype")
        if tensor.parameters.get("content_type", "str") != "str":
            raise wrong_tensor("must be str or absent", f"{field}.parameters.content_type")
        if index not in data:
            texts = texts_of_json(tensor.data, tensor.shape, field)
        elif request.headers.get(JSON_LENGTH) == b"0":  # raw: without the length before each element
            texts = [decoded(data[index], field)]
        else:
            texts = texts_of_bytes(data[index], tensor.shape, field)
        return TextQuery(texts, f"{field}.data", request.path["model"], request.path.get("version"))

    def encode(self, request: DialectRequest, answer: Answer) -> Response:
        """Return the requested outputs, those that are requested as bytes after the JSON part."""
        body: InferBody = request.body
        is_binary_by_default = body.parameters.get("binary_data_output", False) if body.parameters else False
        outputs, parts = [], []
        for one in body.outputs or _DEFAULT_OUTPUTS:  # in the order of the request, as are the binary parts
            tensor = _output(one, answer)
            if one.parameters.get("binary_data", is_binary_by_default) is True:
                parts.append(bytes_of(tensor.pop("data")))
                tensor["parameters"] = {"binary_data_size": len(parts[-1])}
            outputs.append(tensor)
        model = answer.model
        document = {"model_name": model.name, "model_version": model.version, "outputs": outputs}
        if body.id is not None:
            document["id"] = body.id
        if not parts:
            return json_response(document)
        head = encode_json(document)
        headers: Headers = [(b"content-type", BINARY_TYPE), (JSON_LENGTH, b"%d" % len(head))]
        return BytesResponse(200, headers, head + b"".join(parts))


def _raw_text(body: bytes) -> dict[str, Any]:
    """Return the request of a body without a JSON part: one text, every output as bytes."""
    parameters = {"binary_data_size": len(body)}
    tensor = {"name": TEXT, "shape": [1], "datatype": "BYTES", "parameters": parameters}
    return {"inputs": [tensor], "parameters": {"binary_data_output": True}}


def _text_index(inputs: Sequence[InferInput]) -> int:
    """Return the index of the only input, or of the one named `text`."""
    if len(inputs) == 1:  # under any name: clients written for another model call it `input-0` or `INPUT0`
        return 0
    named = [index for index, tensor in enumerate(inputs) if tensor.name == TEXT]
    if len(named) != 1:
        raise wrong_tensor("must contain one tensor, or one named `text`", "inputs")
    return named[0]


def _binary_parts(inputs: Sequence[InferInput], binary: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the index of each binary input and its bytes; together they must be all there are."""
    offset = 0
    for index, tensor in enumerate(inputs):
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            continue
        field = f"inputs[{index}].parameters.binary_data_size"
        # `type`, because True is an int and a valid parameter value
        if type(size) is not int or not 0 <= size <= len(binary) - offset:
            raise wrong_tensor("does not match the binary part of the body", field)
        yield index, binary[offset : offset + size]
        offset += size
    if offset != len(binary):  # a client that counted wrongly would get predictions of shifted texts
        raise wrong_tensor("do not account for the whole binary part of the body", "inputs")


def _check_outputs(body: InferBody) -> None:
    for index, output in enumerate(body.outputs or ()):
        if output.name not in (LABEL, SCORE, DECISION):
            raise wrong_tensor("must be label, score or decision", f"outputs[{index}].name")
        if "classification" not in output.parameters:
            continue
        count = output.parameters["classification"]
        if type(count) is not int or count < 1 or output.name != SCORE:
            message = "must be a positive number, and is for the output score only"
            raise wrong_tensor(message, f"outputs[{index}].parameters.classification")


def _output(requested: InferRequestedOutput, answer: Answer) -> dict[str, Any]:
    """Return one output tensor with its data."""
    classified, name = answer.classified, requested.name
    if name == LABEL:
        return _texts(name, [one.prediction.label for one in classified])
    if name == DECISION:
        return _texts(name, [one.prediction.decision for one in classified])
    count, classes = len(classified), len(answer.model.labels)
    if "classification" in requested.parameters:
        top = min(int(requested.parameters["classification"]), classes)
        ranked = [label for index in range(count) for label in _classification(answer, index, top)]
        return {"name": SCORE, "datatype": "BYTES", "shape": [count, top], "data": ranked}
    scores: list[float] = []  # flat and row-major, as the protocol has it
    for one in classified:
        scores += one.prediction.scores.values()
    return {"name": SCORE, "datatype": "FP64", "shape": [count, classes], "data": scores}


def _texts(name: str, data: list[str]) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(data)], "parameters": _TEXTS, "data": data}


def _classification(answer: Answer, index: int, top: int) -> list[str]:
    """Return Triton's `value:index:label` of the most probable labels of one text."""
    labels = answer.model.labels
    return [f"{value:.6f}:{labels.index(label)}:{label}" for label, value in answer.ranked(index)[:top]]
