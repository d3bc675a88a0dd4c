"""Tensors of the Open Inference Protocol: the texts of an input, outputs as JSON or as bytes.

Binary tensors are Triton's extension, and the default of its Python client:

    body          JSON part, its length in a header │ tensor │ tensor │ …
    BYTES tensor  length of element (4 bytes, little-endian) │ element in UTF-8 │ …
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from tamis.errors import InputError

_LENGTH = struct.Struct("<I")
_MAX_DEPTH = 8  # bounds the recursion; a shape has at most as many axes


def invalid_tensor(message: str, field: str) -> InputError:
    """Return the error for a tensor with an invalid part."""
    return InputError("wrong_type", f"`{field}` {message}", field=field)


def texts_of_json(data: Any, shape: Sequence[int], name: str) -> list[str]:
    """Return the texts of an input whose data is in the JSON part, flat or nested."""
    if isinstance(data, str):
        data = [data]
    if not isinstance(data, list):
        raise invalid_tensor("must have `data`, a list of texts", name)
    is_flat = all(type(item) is str for item in data)  # the usual form, which is not copied
    texts: list[str] = data if is_flat else list(_flatten(data, name))
    _check_shape(texts, shape, name)
    return texts


def texts_of_bytes(data: bytes, shape: Sequence[int], name: str) -> list[str]:
    """Return the texts of an input whose data follows the JSON part."""
    texts, offset = [], 0
    while offset < len(data):
        start = offset + _LENGTH.size
        if start > len(data):
            raise invalid_tensor("ends within the length of an element", name)
        offset = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        if offset > len(data):
            raise invalid_tensor("has an element that is longer than its data", name)
        texts.append(decode_element(data[start:offset], name))
    _check_shape(texts, shape, name)
    return texts


def decode_element(data: bytes, name: str) -> str:
    """Return the text of a binary element."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise invalid_tensor("has an element that is not valid UTF-8", name) from None


def bytes_of(values: Sequence[str] | Sequence[float]) -> bytes:
    """Return the bytes of a tensor of texts (BYTES) or of numbers (FP64)."""
    if not values or not isinstance(values[0], str):
        return struct.pack(f"<{len(values)}d", *values)
    elements = [str(value).encode() for value in values]
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def _flatten(data: list[Any], name: str, depth: int = 1) -> Iterator[str]:
    for item in data:
        if isinstance(item, str):
            yield item
        elif isinstance(item, list) and depth < _MAX_DEPTH:
            yield from _flatten(item, name, depth + 1)
        else:
            raise invalid_tensor("must contain texts only (datatype BYTES)", name)


def _check_shape(texts: Sequence[str], shape: Sequence[int], name: str) -> None:
    """Raise InputError unless the product of the shape is the number of texts.

    For a single text, any shape of at most one axis is valid: KServe's own tests send [], and some clients
    of MLServer send its number of bytes.
    """
    is_single = len(texts) == 1 and len(shape) <= 1 and all(size >= 0 for size in shape)
    if not is_single and (prod(shape) != len(texts) or not shape or min(shape) < 0):
        raise invalid_tensor("has a `shape` that does not match the number of its elements", name)
