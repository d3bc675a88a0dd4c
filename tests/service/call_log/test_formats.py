"""The forms of the log: what is written can be read back, and a spreadsheet computes nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.service.call_log.formats import CALL_FORMATS, LogFormat, RecentCallsJson, timestamp
from tamis.storage import CallRecord

texts = st.text(st.characters(exclude_categories=["Cs"]))
records = st.builds(
    CallRecord,
    id=st.integers(1 << 56, (1 << 60) - 1).map(lambda ticks: ticks.to_bytes(8, "big") + b"\x80" + bytes(7)),
    caller=texts,
    text=texts,
    label=texts,
    score=st.floats(0, 1),
    model=texts,
    from_cache=st.booleans(),
)
pages = st.lists(st.lists(records, max_size=3), max_size=4)


def written(form: LogFormat, some_pages: list[list[CallRecord]], cursor: str | None = None) -> str:
    parts = [form.head, *map(form.rows, some_pages), form.tail(cursor)]
    return b"".join(parts).decode()


def shown(call: CallRecord) -> tuple[object, ...]:
    return call.caller, call.text, call.label, call.score, call.model, call.from_cache


@given(pages)
@settings(max_examples=100, deadline=None)
def test_json_and_ndjson_hold_every_call_whatever_the_pages(some_pages: list[list[CallRecord]]) -> None:
    calls = [call for page in some_pages for call in page]
    page = json.loads(written(CALL_FORMATS["json"](), some_pages, "there"))
    lines = [json.loads(line) for line in written(CALL_FORMATS["ndjson"](), some_pages).split("\n")[:-1]]
    assert page == {"calls": lines, "next_cursor": "there"}
    fields = ("caller", "input", "label", "score", "model", "from_cache")
    assert [tuple(line[name] for name in fields) for line in lines] == [shown(call) for call in calls]
    recent = json.loads(written(RecentCallsJson(), some_pages))
    assert [(one["index"], one["input"]) for one in recent] == list(enumerate(call.text for call in calls))


@given(pages)
@settings(max_examples=100, deadline=None)
def test_csv_without_its_apostrophe_gives_the_exact_cells(
    some_pages: list[list[CallRecord]],
) -> None:
    rows = csv.DictReader(io.StringIO(written(CALL_FORMATS["csv"](), some_pages), newline=""))
    expected = [call for page in some_pages for call in page]
    for row, call in zip(rows, expected, strict=True):
        cells = (re.sub(r"(^|[;\t\r\n])'", r"\1", row[name]) for name in ("caller", "input", "label"))
        assert tuple(cells) == (call.caller, call.text, call.label)
        assert (float(row["score"]), row["from_cache"]) == (call.score, str(call.from_cache).lower())


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'"])
def test_csv_cells_are_never_formulas(start: str) -> None:
    call = CallRecord(bytes(16), f"{start}caller", f"{start}1+1", f"{start}label", 0.5, "m", False)
    [row] = csv.DictReader(io.StringIO(written(CALL_FORMATS["csv"](), [[call]]), newline=""))
    assert (row["caller"], row["input"], row["label"]) == (
        f"'{start}caller",
        f"'{start}1+1",
        f"'{start}label",
    )


def test_csv_cells_stay_as_they_are_when_harmless() -> None:
    call = CallRecord(bytes(16), "10.0.0.1", "1 = 1", "ham", 1e-9, "m", True)
    [row] = csv.DictReader(io.StringIO(written(CALL_FORMATS["csv"](), [[call]]), newline=""))
    assert (row["caller"], row["input"], row["score"]) == ("10.0.0.1", "1 = 1", "1e-09")


def test_timestamps_always_have_microseconds() -> None:
    assert timestamp(datetime(2026, 11, 21, 22, tzinfo=UTC)) == "2026-11-21T22:00:00.000000Z"
