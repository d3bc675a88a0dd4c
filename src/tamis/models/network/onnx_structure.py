"""What an ONNX file may hold, checked on its bytes before ONNX Runtime sees them.

ONNX Runtime reads tensors that a graph keeps in other files from the working directory, past the
artifact's checksums, and runs loops as long as they like. The graphs that Tamis writes have neither:
plain nodes and tensors only. Knows the wire format of protocol buffers and the field numbers of
`onnx.proto3`, so that serving needs no `onnx` package; does not know operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tamis.errors import ArtifactError

_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5
# 64 bits in groups of 7: more is no varint
_MAX_VARINT_BYTES = 10
_ORT_FORMAT = slice(4, 8)  # where a model in ONNX Runtime's own format has its mark

_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # of ModelProto
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15  # of GraphProto
_ATTRIBUTE = 5  # of NodeProto
_TENSOR, _TENSORS, _SUBGRAPH, _SUBGRAPHS, _SPARSE, _SPARSES = 5, 10, 6, 11, 22, 23  # of AttributeProto
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto


class _Field(NamedTuple):
    number: int
    value: int
    message: memoryview


_NO_BYTES = memoryview(b"")


def check_structure(model: bytes) -> None:
    """Raise ArtifactError unless `model` is an ONNX graph of plain nodes with all of its tensors inside."""
    if model[_ORT_FORMAT] == b"ORTM":
        raise ArtifactError("model.onnx is in ONNX Runtime's own format; only ONNX is read")
    try:
        graphs = [*_graphs(memoryview(model))]
    except (IndexError, ValueError):
        raise ArtifactError("model.onnx cannot be read (not a protocol buffer)") from None
    if not graphs:
        raise ArtifactError("model.onnx cannot be read (it has no graph)")


def _graphs(model: memoryview) -> Iterator[memoryview]:
    for field in _fields(model):
        if field.number in (_TRAINING, _FUNCTIONS):
            raise ArtifactError("model.onnx defines functions or training steps, which are not supported")
        if field.number == _GRAPH:
            _check_graph(field.message)
            yield field.message


def _check_graph(graph: memoryview) -> None:
    for field in _fields(graph):
        if field.number == _NODE:
            _check_node(field.message)
        elif field.number == _INITIALIZER:
            _check_tensor(field.message)
        elif field.number == _SPARSE_INITIALIZER:
            raise ArtifactError("model.onnx has sparse tensors, which are not supported")


def _check_node(node: memoryview) -> None:
    attributes = (field.message for field in _fields(node) if field.number == _ATTRIBUTE)
    for field in (field for attribute in attributes for field in _fields(attribute)):
        if field.number in (_SUBGRAPH, _SUBGRAPHS):
            raise ArtifactError("model.onnx has a loop or a branch, which is not supported")
        if field.number in (_SPARSE, _SPARSES):
            raise ArtifactError("model.onnx has sparse tensors, which are not supported")
        if field.number in (_TENSOR, _TENSORS):
            _check_tensor(field.message)


def _check_tensor(tensor: memoryview) -> None:
    for field in _fields(tensor):
        if field.number == _EXTERNAL_DATA or (field.number == _DATA_LOCATION and field.value):
            raise ArtifactError("model.onnx keeps tensors in another file; an artifact holds all of its own")


def _fields(message: memoryview) -> Iterator[_Field]:
    """Yield the fields of a message; raise IndexError or ValueError if it is none."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        value, contents = 0, _NO_BYTES
        if wire_type == _VARINT:
            value, position = _varint(message, position)
        elif wire_type == _MESSAGE:
            size, position = _varint(message, position)
            contents = message[position : position + size]
            position += size
        elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if wire_type == _EIGHT_BYTES else 4
        else:
            raise ValueError("a wire type that ONNX does not use")
        if position > len(message):
            raise ValueError("cut short")
        yield _Field(number, value, contents)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a number of more than 64 bits")
