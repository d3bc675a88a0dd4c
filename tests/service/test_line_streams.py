"""`POST /predictions` with NDJSON and CSV bodies: formats, broken lines, packed bodies, both access paths."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.errors import InputError
from tamis.service.api.line_reader import CsvLines, LineOptions, NdjsonLines
from tamis.service.call_log.formats import guarded
from tamis.settings import Settings
from tests.support.fuzzing import CASES
from tests.support.serving import client_of, make_app

Ask = Callable[..., httpx.Response]
NDJSON, CSV = "application/x-ndjson", "text/csv"
_OPTIONS = LineOptions("text", max_line_bytes=2_000, max_text_chars=1_000)


def sent(body: Any, media_type: str, path: str = "/predictions", **options: Any) -> httpx.Response:
    """Send a body to a new application and return the response; `options` are settings, or `headers`."""
    headers = {"content-type": media_type} | options.pop("headers", {})

    async def ask() -> httpx.Response:
        async with client_of(make_app(Settings(**options))) as client:
            return await client.post(path, content=body, headers=headers)

    return asyncio.run(ask())


def records(response: httpx.Response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


def documents(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.content.splitlines()]


@pytest.mark.parametrize("fast_path", [True, False])
@pytest.mark.parametrize("path", ["/predictions", "/models/keywords/predictions"])
@pytest.mark.parametrize("version", ["", "/versions/3"])
def test_lines_get_the_answers_of_a_list(fast_path: bool, path: str, version: str) -> None:
    path = path.replace("/predictions", f"{version}/predictions") if "models" in path else path
    texts = ["win cash", "hi", "", "naïve \U0001f35c", "win cash"]

    async def ask() -> list[Any]:
        async with client_of(make_app(Settings(fast_path=fast_path))) as client:
            listed = (await client.post(path, json={"texts": texts})).json()
            lines = "".join(json.dumps({"text": text, "other": 1}) + "\n" for text in texts)
            found = await client.post(path, content=lines, headers={"content-type": NDJSON})
            table = "id,text\r\n" + "".join(f'7,"{text}"\r\n' for text in texts)
            rows = records(await client.post(path, content=table, headers={"content-type": CSV}))
            logged = (await client.get("/log")).json()["calls"]
            return [listed, documents(found), rows, logged]

    listed, found, rows, logged = asyncio.run(ask())
    for ours, theirs in zip(found, listed, strict=True):
        assert ours | {"id": 0, "from_cache": 0} == theirs | {"id": 0, "from_cache": 0}
    assert [row["input"] for row in rows] == texts
    assert [float(row["score_spam"]) for row in rows] == [one["prediction"]["spam"] for one in listed]
    assert [row["label"] for row in rows] == [one["top"]["label"] for one in listed]
    assert {one["from_cache"] for one in found} == {True}
    assert len(logged) == 3 * len(texts)
    assert {row["id"] for row in rows} <= {call["id"] for call in logged}


def test_a_broken_line_is_answered_by_its_error_in_place() -> None:
    lines = b'"win"\n{bad\n{"a":1}\n{"text":3}\n"%s"\n{"text":"a","text":"b"}\n"\\ud800"\n\xff\n7\n"hi"'
    found = documents(sent(lines % (b"x" * 30), NDJSON, max_text_chars=20))
    assert [one.get("error", {}).get("code") for one in found] == [
        None,
        "not_json",
        "missing_field",
        "wrong_type",
        "text_too_long",
        "duplicate_field",
        "not_json",
        "not_json",
        "wrong_type",
        None,
    ]
    for number, one in enumerate(found, 1):
        assert "error" not in one or one["error"]["message"].startswith(f"line {number}")


def test_a_broken_record_is_answered_in_place_and_by_line() -> None:
    table = b'a,text\n1,"two\nlines"\n2,\n3\n4,"a"b\n5,\xff\n6,=1+1\n7,"last"'
    found = records(sent(table, CSV))
    assert [row["input"] for row in found] == ["two\nlines", "", "", "", "", "'=1+1", "last"]
    assert [row["error"] for row in found] == ["", "", "missing_field", "not_csv", "not_csv", "", ""]
    assert [row["message"][:6] for row in found if row["message"]] == ["line 5", "line 6", "line 7"]


@pytest.mark.parametrize(
    ("body", "media_type", "query", "code"),
    [
        (b"win\nhi\n", CSV, "", "missing_field"),
        (b"a,b\n1,2\n", CSV, "?text_column=c", "missing_field"),
        (b"text,text\n1,2\n", CSV, "", "duplicate_field"),
        (b"", CSV, "", "missing_field"),
        (b"text\nhi\n", CSV, "?columns=text", "unknown_field"),
        (b'"hi"\n', NDJSON, "?text_column=a&text_column=b", "duplicate_field"),
        (b'"hi"\n', NDJSON, "?echo_input=maybe", "wrong_type"),
        (b"hi", "text/plain", "", "wrong_content_type"),
    ],
)
def test_what_stops_a_body_at_once_is_a_status(body: bytes, media_type: str, query: str, code: str) -> None:
    refused = sent(body, media_type, f"/predictions{query}")
    assert refused.status_code in (400, 415, 422)
    assert refused.json()["error"]["code"] == code


def test_csv_without_a_header_has_one_text_per_line() -> None:
    found = records(sent(b'\xef\xbb\xbfwin\n\n"a,b"\nc,d\n', "text/csv; header=absent"))
    assert [row["input"] for row in found] == ["win", "a,b", ""]
    assert found[2]["message"] == "line 4 has 2 fields; without a header send one"


def test_a_named_column_is_read_and_input_left_out() -> None:
    path = "/predictions?text_column=body&echo_input=false&skip_cache=true"
    assert [row["input"] for row in records(sent(b"id,body\n1,win\n", CSV, path))] == [""]
    [found] = documents(sent(b'{"body": "win"}', NDJSON, path))
    assert found["input"] is None and found["top"]["label"] == "spam"


def test_packed_lines_are_read_and_a_cut_stream_is_named() -> None:
    lines = b'"win"\n' * 10_000
    for coding, body in (("gzip", gzip.compress(lines)), ("identity", lines)):
        found = documents(sent(body, NDJSON, headers={"content-encoding": coding}))
        assert len(found) == 10_000
    cut = documents(sent(gzip.compress(lines)[:-3], NDJSON, headers={"content-encoding": "gzip"}))
    assert [one["error"]["code"] for one in cut[-1:]] == ["broken_encoding"]
    none = sent(b"plain", NDJSON, headers={"content-encoding": "gzip"})
    assert (none.status_code, none.json()["error"]["code"]) == (400, "broken_encoding")


@pytest.mark.parametrize(("body", "n_texts"), [(b"", 0), (b"\n \n", 0), (b'""', 1)])
def test_blank_lines_are_skipped(body: bytes, n_texts: int) -> None:
    assert len(documents(sent(body, NDJSON))) == n_texts


def test_rate_limit_ends_a_stream_with_its_error(tmp_path: Path) -> None:
    options = {"rate_per_minute": 1, "rate_burst": 10, "rate_file": str(tmp_path / "one")}
    found = documents(sent(b'"win"\n' * 30, NDJSON, **options))
    options["rate_file"] = str(tmp_path / "two")
    assert [one.get("error", {}).get("code") for one in found] == [None] * 10 + ["rate_limited"]

    async def ask() -> list[int]:
        async with client_of(make_app(Settings(**options))) as client:
            headers = {"content-type": NDJSON}
            statuses = []
            for _ in range(2):
                response = await client.post("/predictions", content=b'"win"\n' * 10, headers=headers)
                statuses.append(response.status_code)
            assert "retry-after" in response.headers
            return statuses

    assert asyncio.run(ask()) == [200, 429]


def test_an_overlong_line_is_named_and_the_rest_is_read() -> None:
    lines = b'"win"\n"' + b"x" * 90_000 + b'"\n"hi"\n'
    found = documents(sent(lines, NDJSON, max_body_bytes=2_000))
    assert [one.get("error", {}).get("message") for one in found] == [
        None,
        "line 2 is longer than 2000 bytes",
        None,
    ]


def test_a_quote_that_never_ends_ends_the_stream() -> None:
    found = records(sent(b'text\nwin\n"' + b"x\n" * 90_000, CSV, max_body_bytes=2_000))
    assert [row["error"] for row in found] == ["", "text_too_long"]
    assert found[1]["message"] == "line 3 is longer than 2000 bytes"
    [short] = records(sent(b'text\n"hi\n', CSV))
    assert short["message"] == "line 2: a quoted field does not end"


def test_a_broken_line_is_counted_as_a_refusal() -> None:
    async def ask() -> str:
        async with client_of(make_app()) as client:
            await client.post("/predictions", content=b"{\n{\n", headers={"content-type": NDJSON})
            return (await client.get("/metrics")).text

    found = asyncio.run(ask())
    assert 'tamis_refusals_total{code="not_json"} 1' in found
    assert 'route="/predictions",method="POST",status="200"} 1' in found


_CELL = st.text(st.sampled_from('a", \n\r=é'), max_size=6)


@settings(max_examples=300)
@given(rows=st.lists(_CELL, max_size=8), seed=st.integers(0, 99), quoting=st.sampled_from([0, 1]))
def test_any_csv_is_read_as_python_writes_it(rows: list[str], seed: int, quoting: Any) -> None:
    """However the body is cut, every cell that `csv.writer` wrote is found again."""
    table = io.StringIO(newline="")
    csv.writer(table, quoting=quoting).writerows([["n", "text"], *([n, cell] for n, cell in enumerate(rows))])
    reader = CsvLines(_OPTIONS)
    found = [line for piece in pieces(table.getvalue().encode(), seed) for line in reader.feed(piece)]
    assert [line.text for line in [*found, *reader.end()]] == rows


@settings(max_examples=300)
@given(rows=st.lists(st.text(max_size=6), max_size=8), seed=st.integers(0, 99))
def test_any_ndjson_is_read_however_it_is_cut(rows: list[str], seed: int) -> None:
    body = b"".join(json.dumps(row).encode() + b"\r\n" for row in rows)
    reader = NdjsonLines(_OPTIONS)
    found = [line for piece in pieces(body, seed) for line in reader.feed(piece)]
    assert [line.text for line in [*found, *reader.end()]] == rows


@settings(max_examples=500)
@given(body=st.binary(max_size=80) | st.text(st.sampled_from('a",\n\\{}é'), max_size=80).map(str.encode))
def test_any_bytes_make_lines_or_named_errors(body: bytes) -> None:
    for reader in (NdjsonLines(_OPTIONS), CsvLines(_OPTIONS), CsvLines(_OPTIONS._replace(has_header=False))):
        try:
            lines = [*reader.feed(body), *reader.end()]
        except InputError as refused:
            assert refused.code in {"missing_field", "duplicate_field"}
            continue
        assert len(lines) <= body.count(b"\n") + 1
        assert all(line.error is None or str(line.error).startswith("line ") for line in lines)


class Code(str):
    """Of the error that a line must get."""


def _csv_cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
_JSON_LINES = (
    st.builds(lambda text, ascii: (json.dumps(text, ensure_ascii=ascii), text), _TEXTS, st.booleans())
    | st.builds(lambda text, more: (json.dumps({"n": more, "text": text}), text), _TEXTS, st.integers())
    | st.sampled_from(
        [
            ("{bad", Code("not_json")),
            ('"\\ud800"', Code("not_json")),
            ('{"a":1}', Code("missing_field")),
            ('{"text":[1]}', Code("wrong_type")),
            ("[1]", Code("wrong_type")),
            (f'"{"x" * 101}"', Code("text_too_long")),
            ('{"text":"a","text":"b"}', Code("duplicate_field")),
        ]
    )
)
_CSV_LINES = st.builds(
    lambda text, n: (f"{n},{_csv_cell(text)}", text), _TEXTS, st.integers()
) | st.sampled_from(
    [("7", Code("missing_field")), ('7,"a"b', Code("not_csv")), (f"7,{'x' * 101}", Code("text_too_long"))]
)
_LINES = st.one_of(
    st.tuples(st.just(NDJSON), st.lists(_JSON_LINES, max_size=12)),
    st.tuples(st.just(CSV), st.lists(_CSV_LINES, max_size=12)),
)


@settings(max_examples=CASES, deadline=None)
@given(drawn=_LINES, end=st.sampled_from(["\n", "\r\n", "\n\n"]), packed=st.booleans())
def test_generated_lines_are_answered_one_by_one(ask: Ask, drawn: Any, end: str, packed: bool) -> None:
    media_type, lines = drawn
    head = "id,text" + end if media_type == CSV else ""  # a broken line gets its error in its place
    body = (head + "".join(line + end for line, _ in lines)).encode()
    headers = {"content-type": media_type} | ({"content-encoding": "gzip"} if packed else {})
    response = ask("POST", "/predictions", content=gzip.compress(body) if packed else body, headers=headers)
    if head:
        found = [(row["error"] or None, row["input"]) for row in records(response)]
        expected = [(None, guarded(one)) if type(one) is str else (one, "") for _, one in lines]
    else:
        answers = documents(response)
        found = [(one.get("error", {}).get("code"), one.get("input", "")) for one in answers]
        expected = [(None, one) if type(one) is str else (one, "") for _, one in lines]
    assert found == expected


def pieces(body: bytes, seed: int) -> list[bytes]:
    """Cut a body at random places."""
    chance, found = random.Random(seed), []
    while body:
        size = chance.randint(1, 12)
        found.append(body[:size])
        body = body[size:]
    return found
