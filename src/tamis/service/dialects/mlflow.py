"""MLflow's scoring server and SageMaker's containers: `/invocations` takes JSON or CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, Response

from tamis import __version__
from tamis.errors import InputError
from tamis.service.api.predictor import EXAMPLE_TEXTS
from tamis.service.dialects.base import Dialect, DialectRequest, QueryResult, TextQuery, invalid_field
from tamis.service.dialects.bodies import Texts, TolerantBody
from tamis.service.dialects.kserve_v1 import V1Predictions, predictions_body
from tamis.service.dialects.routes import DialectRoutes
from tamis.service.http import is_draining
from tamis.service.request_body import check_content_type, media_type, parse_json
from tamis.service.responses import ErrorResponse, json_response
from tamis.service.security.client_identity import OPEN

_CSV = b"text/csv"
# MLflow's scoring server rejects a body with none or several of them
_FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
_TEXT_COLUMN = "text"

MlflowResponse = V1Predictions
Row = dict[str, Any]


class SplitFrame(TolerantBody):
    """A data frame: the names of its columns, then its rows."""

    columns: list[str]
    data: Annotated[list[Annotated[list[Any], Field(fail_fast=True)]], Field(fail_fast=True)]


class InvocationsBody(TolerantBody):
    """Texts to classify, in exactly one of the four forms."""

    inputs: Annotated[
        list[str | Row] | dict[str, Texts] | str | None,
        Field(description='Texts, or {"text": texts}.'),
    ] = None
    instances: Annotated[list[str | Row] | None, Field(fail_fast=True)] = None
    dataframe_split: SplitFrame | None = None
    dataframe_records: Annotated[list[Row] | None, Field(fail_fast=True)] = None
    # not used; accepted because MLflow's client may send it
    params: dict[str, Any] | None = None


class MlflowError(BaseModel):
    """An error."""

    error_code: str
    message: str


class Mlflow(Dialect):
    """MLflow's and SageMaker's `/invocations`."""

    name = "mlflow"
    title = "MLflow and SageMaker"
    description = "For clients of `mlflow models serve` and of SageMaker endpoints."
    error_model = MlflowError
    formats = "JSON or CSV"
    invalid_body_status = 400

    def error_body(self, error: ErrorResponse, status: int) -> dict[str, object]:
        """Return MLflow's envelope without `stack_trace`, which could contain texts."""
        code = "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR"
        return {"error_code": code, "message": error.message}

    def parse(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[Any, bytes]:
        """Return the document; a CSV file is converted to a data frame."""
        check_content_type(headers, b"", _CSV)
        return (_frame_of_csv(body) if media_type(headers) == _CSV else parse_json(body)), b""

    def decode(self, request: DialectRequest) -> TextQuery:
        """Return the texts of the one form that is given."""
        body: InvocationsBody = request.body
        # here, because neither pydantic nor msgspec can express "exactly one of these fields"
        given = [form for form in _FORMS if getattr(body, form) is not None]
        if len(given) != 1:
            raise invalid_field(f"the body must have exactly one of {', '.join(_FORMS)}", "body")
        [field] = given
        rows = getattr(body, field)
        if field == "dataframe_split":
            index = rows.columns.index(_text_column(rows.columns, "dataframe_split.columns"))
            # None for a row that is too short: `_texts` raises the error that names it
            rows = [row[index] if index < len(row) else None for row in rows.data]
            field = "dataframe_split.data"
        elif isinstance(rows, dict):
            rows = rows[_text_column([*rows], field)]
        return TextQuery(_texts([rows] if isinstance(rows, str) else rows, field), field)

    def encode(self, request: DialectRequest, result: QueryResult) -> Response:
        """Return the predictions, one object per row."""
        return json_response(predictions_body(result))

    def add_routes(self, routes: DialectRoutes) -> None:
        """Add `/invocations`, `/ping` and `/version`."""
        example = {"inputs": EXAMPLE_TEXTS}
        routes.classify("/invocations", InvocationsBody, MlflowResponse, summary="Classify", example=example)

        # /ping is SageMaker's health check; MLflow's client has methods for both
        @routes.get("/ping", None, summary="Health", access=OPEN, response_class=PlainTextResponse)
        async def ping(request: Request) -> Response:
            return PlainTextResponse("\n", 503 if is_draining(request.scope) else 200)

        @routes.get("/version", None, summary="Version", access=OPEN, response_class=PlainTextResponse)
        async def version() -> Response:
            return PlainTextResponse(__version__)


def _frame_of_csv(body: bytes) -> dict[str, Any]:
    """Return a CSV file as a `dataframe_split`; the first row has the names of the columns."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark; newline="": line breaks within cells are kept
        rows = list(csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError:
        raise InputError("not_json", "the body is not valid UTF-8", field="body") from None
    except csv.Error:
        raise InputError("not_json", "the body is not valid CSV", field="body") from None
    columns, *data = rows or [[]]
    return {"dataframe_split": {"columns": columns, "data": data}}


def _texts(rows: Sequence[Any], field: str) -> list[str]:
    """Return the texts of rows, each a text or a record."""
    texts = []
    for index, row in enumerate(rows):
        text = row[_text_column([*row], f"{field}[{index}]")] if isinstance(row, dict) else row
        if not isinstance(text, str):
            raise invalid_field(f"`{field}[{index}]` must be a text", f"{field}[{index}]")
        texts.append(text)
    return texts


def _text_column(names: Sequence[str], field: str) -> str:
    """Return the name of the column of texts: `text`, or that of the only column."""
    if _TEXT_COLUMN in names:
        return _TEXT_COLUMN
    if len(names) != 1:
        raise invalid_field(f"`{field}` must have a column `text`, or one column only", field)
    return names[0]
