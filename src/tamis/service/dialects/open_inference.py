"""The Open Inference Protocol (V2) of KServe, Triton, MLServer and TorchServe.

    request   JSON, or JSON | bytes of each binary input        a header has the length of the JSON part
              the texts are one input of type BYTES
    response  JSON, or JSON | bytes of each binary output       outputs label, score and decision

Accepts what clients send: any shape of n texts, flat or nested data, binary tensors in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from msgspec.json import encode as encode_json
from pydantic import BaseModel, Field
from starlette.responses import Response

from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Dialect, DialectRequest, QueryResult, TextQuery
from tamis.service.dialects.bodies import TolerantBody
from tamis.service.dialects.repository import DECISION, LABEL, SCORE, TEXT, add_repository_routes
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.dialects.tensors import (
    bytes_of,
    decode_element,
    invalid_tensor,
    texts_of_bytes,
    texts_of_json,
)
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


# MLServer's clients choose the codec of an output by its content type
_TEXT_PARAMETERS: Parameters = {"content_type": "str"}
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
        """Add the routes of inference and of the model repository."""
        tensor = {"name": TEXT, "shape": [2], "datatype": "BYTES", "data": EXAMPLE_TEXTS}
        for path in ("/v2/models/{model:model}", "/v2/models/{model:model}/versions/{version}"):
            routes.classify(
                f"{path}/infer", InferBody, InferResponse, summary="Infer", example={"inputs": [tensor]}
            )
        add_repository_routes(routes)

    def parse(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Any, bytes]:
        """Return the JSON part and the binary part; without a JSON part the body is a single text."""
        declared = headers.get(JSON_LENGTH)
        if declared is None:
            return super().parse(headers, body)
        check_content_type(headers, b"", BINARY_TYPE)
        # ten digits exceed any body, and `int` raises ValueError for more than 4,300
        if not (declared.isdigit() and len(declared) < 10 and int(declared) <= len(body)):
            raise invalid_tensor("is not the length of the JSON part", JSON_LENGTH.decode())
        length = int(declared)
        return (parse_json(body[:length]) if length else _raw_request(body)), body[length:]

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts of the input tensor."""
        body: InferBody = request.body
        # here, not in `encode`: invalid outputs must not cost a classification and a line in the log
        _check_outputs(body)
        parts = dict(_binary_parts(body.inputs, request.binary))
        index = _text_index(body.inputs)
        tensor, field = body.inputs[index], f"inputs[{index}]"
        if tensor.datatype != "BYTES":
            raise invalid_tensor("must be BYTES", f"{field}.datatype")
        if tensor.parameters.get("content_type", "str") != "str":
            raise invalid_tensor("must be str or absent", f"{field}.parameters.content_type")
        if index not in parts:
            texts = texts_of_json(tensor.data, tensor.shape, field)
        elif request.headers.get(JSON_LENGTH) == b"0":  # a raw text has no length before it
            texts = [decode_element(parts[index], field)]
        else:
            texts = texts_of_bytes(parts[index], tensor.shape, field)
        return TextQuery(texts, f"{field}.data", request.path["model"], request.path.get("version"))

    def encode(self, request: DialectRequest, result: QueryResult) -> Response:
        """Return the requested outputs; those requested as bytes follow the JSON part."""
        body: InferBody = request.body
        is_binary_by_default = body.parameters.get("binary_data_output", False)
        outputs, parts = [], []
        # clients take binary parts in the order of the outputs
        for requested in body.outputs or _DEFAULT_OUTPUTS:
            tensor = _output(requested, result)
            if requested.parameters.get("binary_data", is_binary_by_default) is True:
                parts.append(bytes_of(tensor.pop("data")))
                tensor["parameters"] = {"binary_data_size": len(parts[-1])}
            outputs.append(tensor)
        model = result.model
        document = {"model_name": model.name, "model_version": model.version, "outputs": outputs}
        if body.id is not None:
            document["id"] = body.id
        if not parts:
            return json_response(document)
        head = encode_json(document)
        headers: Headers = [(b"content-type", BINARY_TYPE), (JSON_LENGTH, b"%d" % len(head))]
        return BytesResponse(200, headers, head + b"".join(parts))


def _raw_request(body: bytes) -> dict[str, Any]:
    """Return the JSON part that a body without one stands for: one text, all outputs as bytes."""
    parameters = {"binary_data_size": len(body)}
    tensor = {"name": TEXT, "shape": [1], "datatype": "BYTES", "parameters": parameters}
    return {"inputs": [tensor], "parameters": {"binary_data_output": True}}


def _text_index(inputs: Sequence[InferInput]) -> int:
    """Return the index of the only input, or of the one named `text`."""
    if len(inputs) == 1:  # of any name, because clients of other models call it `input-0` or `INPUT0`
        return 0
    named = [index for index, tensor in enumerate(inputs) if tensor.name == TEXT]
    if len(named) != 1:
        raise invalid_tensor("must contain one tensor, or one named `text`", "inputs")
    return named[0]


def _binary_parts(inputs: Sequence[InferInput], binary: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the index and the bytes of each binary input; raise InputError if sizes do not add up."""
    offset = 0
    for index, tensor in enumerate(inputs):
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            continue
        field = f"inputs[{index}].parameters.binary_data_size"
        # `type`, because True is an int and a valid parameter value
        if type(size) is not int or not 0 <= size <= len(binary) - offset:
            raise invalid_tensor("does not match the binary part of the body", field)
        yield index, binary[offset : offset + size]
        offset += size
    if offset != len(binary):  # wrong sizes would yield predictions for shifted texts
        raise invalid_tensor("do not account for the whole binary part of the body", "inputs")


def _check_outputs(body: InferBody) -> None:
    for index, output in enumerate(body.outputs or ()):
        if output.name not in (LABEL, SCORE, DECISION):
            raise invalid_tensor("must be label, score or decision", f"outputs[{index}].name")
        if "classification" not in output.parameters:
            continue
        count = output.parameters["classification"]
        if type(count) is not int or count < 1 or output.name != SCORE:
            message = "must be a positive number, and is for the output score only"
            raise invalid_tensor(message, f"outputs[{index}].parameters.classification")


def _output(requested: InferRequestedOutput, result: QueryResult) -> dict[str, Any]:
    """Return one output tensor with its data."""
    predictions, name = result.predictions, requested.name
    if name == LABEL:
        return _text_tensor(name, [one.label for one in predictions])
    if name == DECISION:
        return _text_tensor(name, [one.decision for one in predictions])
    count, labels = len(predictions), result.model.labels
    if "classification" in requested.parameters:
        top = min(int(requested.parameters["classification"]), len(labels))
        # the form of Triton's extension: value:index:label, the most probable first
        ranked = [
            f"{score:.6f}:{labels.index(label)}:{label}"
            for index in range(count)
            for label, score in result.ranked(index)[:top]
        ]
        return {"name": SCORE, "datatype": "BYTES", "shape": [count, top], "data": ranked}
    # flat and row-major, as the protocol requires
    scores = [score for one in predictions for score in one.scores.values()]
    return {"name": SCORE, "datatype": "FP64", "shape": [count, len(labels)], "data": scores}


def _text_tensor(name: str, data: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": "BYTES",
        "shape": [len(data)],
        "parameters": _TEXT_PARAMETERS,
        "data": data,
    }
