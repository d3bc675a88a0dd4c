"""`POST /predictions` with a body of lines: answers are sent while the body is still arriving.

    body ─► LineReader ─► up to 256 lines ─► Predictor ─► LineWriter ─► response, then the next lines

Constant memory: the next piece of the body is read after the answers to the last one have been sent. A line
that cannot be classified is answered by its error. An error that ends the whole stream is reported by the
status if nothing was sent yet, otherwise by the last line of the response.
"""

# No `from __future__ import annotations`: FastAPI reads the local annotations of the endpoint.
import csv
import io
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Self

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from tamis.errors import InputError
from tamis.inference.served_model import ServedModel
from tamis.service.api.errors import response_to
from tamis.service.api.line_reader import BodyPieces, CsvLines, LineOptions, LineReader, NdjsonLines, TextLine
from tamis.service.api.predictor import EncodedPrediction, Predictor
from tamis.service.api.route import RequestLimits, Requires, StrictRoute
from tamis.service.call_log.formats import guarded
from tamis.service.http import STREAMED_BODY
from tamis.service.request_body import HEADERS, media_type
from tamis.service.responses import ERROR_CODE, Headers
from tamis.service.security.client_identity import CALLER, PREDICT, Caller

# lines classified together: bounds a stream's memory, and the texts counted at once by the rate limit
_GROUP_TEXTS = 256
_NDJSON, _CSV = b"application/x-ndjson", b"text/csv"
_encode_lines = msgspec.json.Encoder().encode_lines

Answer = EncodedPrediction | InputError

_OF_LINES = "Of bodies of lines only (`application/x-ndjson`, `text/csv`)."


class LineQuery(BaseModel):
    """The options of a body of lines, as query parameters."""

    model_config = ConfigDict(extra="forbid")
    text_column: Annotated[str, Field(description=f"The field or column with the text. {_OF_LINES}")] = "text"
    echo_input: Annotated[bool, Field(description=f"As the field of that name. {_OF_LINES}")] = True
    skip_cache: Annotated[bool, Field(description=f"As the field of that name. {_OF_LINES}")] = False


class UnusedLineQuery(LineQuery):
    """The same options on a request with a list of texts: they are checked and have no effect."""

    model_config = ConfigDict(extra="ignore")


class LineWriter(ABC):
    """Encodes answers in the format of the request."""

    media_type: bytes
    head: bytes = b""

    @abstractmethod
    def lines(self, answers: Sequence[Answer]) -> bytes:
        """Return one line for each answer or error."""


class NdjsonWriter(LineWriter):
    """One JSON object per line: a prediction, or `{"error": …}`."""

    media_type = _NDJSON

    def lines(self, answers: Sequence[Answer]) -> bytes:
        """Return one line for each answer or error."""
        return _encode_lines(
            {"error": {"code": one.code, "message": str(one)}} if isinstance(one, InputError) else one
            for one in answers
        )


class CsvWriter(LineWriter):
    """A header and one record per answer, guarded against formulas; errors are in the last two columns."""

    media_type = b"text/csv; charset=utf-8; header=present"

    def __init__(self, labels: Sequence[str]):
        self._labels = labels
        names = ["input", "label", "score", "decision", "from_cache", "id", "model_name", "model_version"]
        self._n_values = len(names) + len(labels)
        scores = [f"score_{label}" for label in labels]
        self.head = _records([[guarded(name) for name in [*names, *scores, "error", "message"]]])

    def lines(self, answers: Sequence[Answer]) -> bytes:
        """Return one record for each answer or error."""
        return _records([self._record(one) for one in answers])

    def _record(self, answer: Answer) -> list[object]:
        if isinstance(answer, InputError):  # as many columns as any record: readers refuse ragged CSV
            return [*[""] * self._n_values, answer.code, guarded(str(answer))]
        return [
            guarded(answer.input or ""),
            guarded(answer.top.label),
            answer.top.value,
            guarded(answer.decision),
            "true" if answer.from_cache else "false",
            answer.id,
            guarded(answer.model_name),
            guarded(answer.model_version),
            *[answer.prediction[label] for label in self._labels],
            "",
            "",
        ]


def _records(rows: Sequence[Sequence[object]]) -> bytes:
    lines = io.StringIO(newline="")
    csv.writer(lines, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return lines.getvalue().encode()


class LineStream(Response):
    """The response to a body of lines."""

    def __init__(
        self,
        predictor: Predictor,
        model: ServedModel,
        query: LineQuery,
        *,
        request: Request,
        limits: RequestLimits,
    ):
        self._predictor, self._model, self._query, self._limits = predictor, model, query, limits
        self._caller: Caller = request.scope[CALLER]
        self._scope = request.scope
        headers = request.scope[HEADERS]
        self._pieces = BodyPieces(headers, request.receive)
        self._reader, self._writer = self._format(headers)
        burst = predictor.max_texts_at_once
        # a group beyond the burst would be refused by the rate limit however long the client waits
        self._group_texts = min(_GROUP_TEXTS, limits.max_texts, burst or _GROUP_TEXTS)
        self._rate_headers: Headers = []
        self._end: InputError | None = None  # of the reader: raised after the lines before it are answered
        self._first = b""
        self._chunks = self._encoded()
        self.status_code, self.background = 200, None

    def _format(self, headers: dict[bytes, bytes]) -> tuple[LineReader, LineWriter]:
        is_csv = media_type(headers) == _CSV
        # the parameter of RFC 4180; white space around it is allowed
        has_header = b"header=absent" not in headers[b"content-type"].lower().replace(b" ", b"").split(b";")
        options = LineOptions(
            self._query.text_column, self._limits.max_body_bytes, self._limits.max_text_chars, has_header
        )
        if is_csv:
            return CsvLines(options), CsvWriter(self._model.classifier.labels)
        return NdjsonLines(options), NdjsonWriter()

    async def started(self) -> Self:
        """Answer the first lines, so that an error that stops them is reported by the status."""
        self._first = await anext(self._chunks, b"")
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send answers as they are made, until the body ends or the client disconnects."""
        headers = [
            (b"content-type", self._writer.media_type),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-accel-buffering", b"no"),  # nginx would otherwise collect the response before passing it on
            *self._rate_headers,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(self._writer.head + self._first, send)
        try:
            async for chunk in self._chunks:
                await self._send(chunk, send)
        except Exception as error:  # noqa: BLE001 - the status has been sent: the last line reports it
            refused = response_to(error, scope)
            last = InputError(refused.code, refused.message, field="body")
            scope[ERROR_CODE] = refused.code
            await self._send(self._writer.lines([last]), send)
        if self._pieces.is_whole:  # otherwise the missing last chunk shows that the response is incomplete
            await send({"type": "http.response.body", "body": b""})

    async def _send(self, chunk: bytes, send: Send) -> None:
        if chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _encoded(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            async for chunk in self._answered(self._reader.feed(piece)):
                yield chunk
        if self._pieces.is_whole:
            async for chunk in self._answered(self._reader.end()):
                yield chunk

    async def _answered(self, lines: Iterator[TextLine]) -> AsyncIterator[bytes]:
        while group := self._next_group(lines):
            yield self._writer.lines(await self._classified(group))
        if self._end is not None:
            raise self._end

    def _next_group(self, lines: Iterator[TextLine]) -> list[TextLine]:
        """Return the next lines; what ends the stream is kept until those before it are answered."""
        group: list[TextLine] = []
        try:
            group.extend(islice(lines, self._group_texts))
        except InputError as end:
            self._end = end
        return group

    async def _classified(self, lines: Sequence[TextLine]) -> list[Answer]:
        """Return each line's prediction, or its error."""
        texts = [line.text for line in lines if line.error is None]
        found: Iterator[Answer] = iter(())
        if texts:
            classified, headers = await self._predictor.classify(
                self._model, texts, self._caller, skip_cache=self._query.skip_cache
            )
            self._rate_headers = self._rate_headers or headers  # of the first group: headers are sent once
            inputs = texts if self._query.echo_input else None
            found = iter(self._predictor.bodies(inputs, classified, self._model))
        if errors := [line.error for line in lines if line.error]:
            # the first code only: metrics count a stream with invalid lines as one refusal
            self._scope.setdefault(ERROR_CODE, errors[0].code)
        return [line.error or next(found) for line in lines]


class LineRoute(StrictRoute):
    """A route that matches only bodies of lines; another route of the same path takes JSON."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route takes a request."""
        match, child = super().matches(scope)
        if match is Match.FULL and media_type(scope[HEADERS]) not in (_NDJSON, _CSV):
            return Match.NONE, {}
        return match, child


def add_line_route(
    router: APIRouter, path: str, predictor: Predictor, limits: RequestLimits, *, name: str, model: Any
) -> None:
    """Add the route for bodies of lines; the route for lists, which is added after it, documents both."""
    Model = Annotated[Any, Depends(model)]
    strict: Any = router.route_class

    async def classify_lines(
        query: Annotated[LineQuery, Query()], request: Request, model: Model
    ) -> Response:
        # the timeout of the body must not count the time that its lines take to be classified
        request.scope[STREAMED_BODY] = True
        model = model or predictor.answering(predictor.pool.default, request.scope[CALLER])
        return await LineStream(predictor, model, query, request=request, limits=limits).started()

    router.add_api_route(
        path,
        classify_lines,
        methods=["POST"],
        name=name,
        response_model=None,
        include_in_schema=False,
        dependencies=[Depends(Requires(PREDICT))],
        route_class_override=LineRoute.bound(strict.context),
    )


def line_documentation() -> dict[str, Any]:
    """Return the documentation of bodies of lines, for a route's `openapi_extra`."""
    lines = {"schema": {"type": "string"}}
    ndjson = lines | {"example": '{"text": "WIN a FREE phone now"}\n"See you at six"\n'}
    table = lines | {"example": "text\nWIN a FREE phone now\nSee you at six\n"}
    return {"requestBody": {"content": {"application/x-ndjson": ndjson, "text/csv": table}}}
