"""JSON lines in blocks: one object per line, the columns' types taken from the first objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
import pyarrow

from tamis.batch.blocks import BlockParser, ParsedBlock, Rejection, record_batch

JsonType = Literal["bool", "int", "float", "text", "json"]

# larger ones do not fit into an Arrow column
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: Mapping[JsonType, tuple[Any, Any, str]] = {
    "bool": (bool | None, pyarrow.bool_(), "true or false"),
    "int": (_Int64 | None, pyarrow.int64(), "a whole number of 64 bits"),
    "float": (float | None, pyarrow.float64(), "a number"),
    "text": (str | None, pyarrow.string(), "text"),
    "json": (msgspec.Raw, pyarrow.string(), "JSON"),
}
"""By a column's type: what msgspec decodes, what Arrow holds, and how an error calls it."""


def column_type(values: Sequence[Any]) -> JsonType:
    """Return the type that holds all sample values of a field; nested and mixed ones stay JSON."""
    # `type`, not `isinstance`: bool is a subclass of int
    found = {type(value) for value in values if value is not None}
    if found <= {bool}:
        return "bool" if found else "text"
    if found <= {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
        return "int"
    if found <= {int, float}:
        return "float"
    return "text" if found <= {str} else "json"


@dataclass(frozen=True)
class JsonLinesParser(BlockParser):
    """Reads whole lines.

    text: name of the text field
    kept: names and types of the fields that are carried through
    """

    text: str
    kept: tuple[tuple[str, JsonType], ...]

    def schema(self) -> Any:
        """Return the Arrow schema of the kept fields."""
        return pyarrow.schema([(name, _TYPES[kind][1]) for name, kind in self.kept])

    def parse(self, data: bytes, *, is_last: bool) -> ParsedBlock:
        """Return the rows of a block; blank lines are none."""
        rows: list[Any] = []
        numbers: list[int] = []
        rejected: list[Rejection] = []
        decode, n_rows = self._decoder.decode, 0
        # not `splitlines`: a lone carriage return is white space within an object
        for line in data.split(b"\n"):
            if not line or line.isspace():
                continue
            n_rows += 1
            try:
                rows.append(decode(line))
                numbers.append(n_rows)
            except (msgspec.DecodeError, UnicodeDecodeError):
                rejected.append(Rejection(n_rows, self._problem(line)))
        texts = pyarrow.array([_as_text(row.t) for row in rows], pyarrow.string())
        arrays = [self._array(f"k{i}", kind, rows) for i, (_, kind) in enumerate(self.kept)]
        kept = record_batch(arrays, self.schema(), len(rows))
        return ParsedBlock(texts, kept, numbers if rejected else None, n_rows, rejected)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        """Decode only what is needed, without a dictionary per row."""
        fields: list[tuple[str, Any, Any]] = [("t", str | float | int | bool | None, None)]
        names = {"t": self.text}
        for i, (name, kind) in enumerate(self.kept):
            absent = msgspec.Raw(b"null") if kind == "json" else None
            fields.append((f"k{i}", _TYPES[kind][0], absent))
            names[f"k{i}"] = name
        if self.text in dict(self.kept):  # one field cannot be decoded twice
            index = [name for name, _ in self.kept].index(self.text)
            del names[f"k{index}"]
            fields = [field for field in fields if field[0] != f"k{index}"]
        return msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=names))

    def _array(self, attribute: str, kind: JsonType, rows: Sequence[Any]) -> Any:
        name = self.kept[int(attribute[1:])][0]
        if name == self.text:
            return pyarrow.array([_as_text(row.t) for row in rows], pyarrow.string())
        values: Iterator[Any] = (getattr(row, attribute) for row in rows)
        if kind == "json":
            values = (None if bytes(value) == b"null" else bytes(value).decode() for value in values)
        return pyarrow.array(list(values), _TYPES[kind][1])

    def _problem(self, line: bytes) -> str:
        """Return why a line cannot be used."""
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "not valid JSON"
        if not isinstance(found, dict):
            return "not a JSON object"
        if isinstance(found.get(self.text), dict | list):
            return "the text is an object or a list"
        for name, kind in self.kept:
            try:
                msgspec.convert(found.get(name), _TYPES[kind][0])
            except msgspec.ValidationError:
                return f"field {name!r} is not {_TYPES[kind][2]}, as it is in the first rows"
        return "a number is out of range"


def _as_text(value: str | float | bool | None) -> str | None:
    """Return a field's value as the reader of labelled data gives it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None or isinstance(value, str) else str(value)
