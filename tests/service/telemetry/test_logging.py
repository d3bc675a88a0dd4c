"""How a line looks, and that no exception's words get into one."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from tamis.service.telemetry.logging import FIELDS, JsonLines, TextLines


def _record(event: str, *, failed: bool = False, **fields: object) -> logging.LogRecord:
    exc_info = None
    if failed:
        try:
            raise ValueError("WIN hunter2 now")
        except ValueError:
            exc_info = sys.exc_info()
    record = logging.LogRecord("tamis.x", logging.WARNING, __file__, 1, event, (), exc_info)
    record.created = 1_795_300_000.25
    setattr(record, FIELDS, fields)
    return record


def test_json_lines_hold_the_event_and_its_fields() -> None:
    line = json.loads(JsonLines().format(_record("slow request", route="/prediction", seconds=1.5)))
    assert line.pop("process") > 0
    assert line == {
        "time": "2026-11-21T22:26:40.250Z",
        "level": "warning",
        "logger": "tamis.x",
        "event": "slow request",
        "route": "/prediction",
        "seconds": 1.5,
    }


def test_text_lines_read_as_a_sentence_with_fields() -> None:
    line = TextLines().format(_record("slow request", route="/log", seconds=1.5, reason="too much"))
    assert line == (
        '2026-11-21T22:26:40.250Z WARNING tamis.x: slow request route=/log seconds=1.5 reason="too much"'
    )


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()])
def test_an_exceptions_words_are_left_out_and_its_place_is_told(lines: logging.Formatter) -> None:
    line = lines.format(_record("failed", failed=True))
    assert "hunter2" not in line
    assert "ValueError" in line and "_record" in line


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()])
@pytest.mark.parametrize("event", ["a\nb", "a\r\nb", "a\u2028b", "a\x85b"])
def test_an_event_is_one_line_whatever_it_says(lines: logging.Formatter, event: str) -> None:
    assert len(lines.format(_record(event)).splitlines()) == 1
