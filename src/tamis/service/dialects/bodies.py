"""Validation of request bodies: msgspec structs accept them, pydantic models document them and report errors.

    document ─► msgspec: convert to the struct ─► valid: an object with the model's fields
                          │ invalid
                          └─► pydantic: the error that names the field

Pydantic takes five times as long, a noticeable share of a request with one text.
"""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
import pydantic
from annotated_types import Ge, MaxLen, MinLen
from fastapi.exceptions import RequestValidationError
from msgspec import NODEFAULT, Meta, Struct, convert, defstruct
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic.types import FailFast

_CONSTRAINTS: dict[type, str] = {Ge: "ge", MaxLen: "max_length", MinLen: "min_length"}


class TolerantBody(BaseModel):
    """A body of another server's format: values are not converted, unknown fields are ignored."""

    model_config = ConfigDict(strict=True)


Texts = Annotated[list[str], Field(fail_fast=True)]
"""A list whose validation stops at the first item of a wrong type."""


def validated(model: type[BaseModel], document: object) -> Any:
    """Return an object with the fields of `model`; raise RequestValidationError for an invalid document."""
    try:
        return convert(document, struct_of(model))
    except msgspec.ValidationError:
        pass  # validated again, because msgspec's error messages differ from those of the native API
    try:
        return model.model_validate(document)
    except pydantic.ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False, include_context=True)
        raise RequestValidationError(
            [{**error, "loc": ("body", *error["loc"])} for error in errors]
        ) from None


@cache
def struct_of(model: type[BaseModel]) -> type[Struct]:
    """Return a struct that accepts what a model accepts; raise TypeError for an unsupported constraint."""
    # derived from the model, so that the accepted bodies cannot differ from the documented schema
    fields: list[tuple[str, Any, Any]] = [
        (name, _field_type(field, field.annotation), NODEFAULT if field.is_required() else field.default)
        for name, field in model.model_fields.items()
    ]
    # a struct's required fields must precede its optional ones
    required_first = sorted(fields, key=lambda field: field[2] is not NODEFAULT)
    return defstruct(model.__name__, required_first, frozen=True)


def _field_type(field: FieldInfo, annotation: Any) -> Any:
    """Return msgspec's type for an annotation, with the field's constraints."""
    constraints = {}
    for item in field.metadata:
        if type(item) in _CONSTRAINTS:
            name = _CONSTRAINTS[type(item)]
            constraints[name] = getattr(item, name)
        elif not isinstance(item, FailFast):  # which only limits how many errors are reported
            raise TypeError(f"no constraint of msgspec for {item!r}")
    converted = _convert(annotation)
    return Annotated[converted, Meta(**constraints)] if constraints else converted


def _convert(annotation: Any) -> Any:
    """Return an annotation with models and pydantic's constraints replaced by structs and msgspec's."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _field_type(arguments[1], arguments[0])
    if origin in (Union, UnionType):
        return Union[tuple(map(_convert, arguments))]  # noqa: UP007 - of types known at run time only
    if origin in (list, dict):
        return origin[tuple(map(_convert, arguments))]
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return struct_of(annotation) if is_model else annotation
