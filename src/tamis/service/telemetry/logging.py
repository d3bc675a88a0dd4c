"""Logging configuration and formats: one line per event, on standard error.

Nothing is configured at import. An exception's message is never logged, because it may repeat a caller's
text; its type and the positions of its traceback are.
"""

from __future__ import annotations

import json
import logging
import logging.config
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FIELDS = "fields"
"""The key of `extra` with an event's own fields, a dict."""


def configure_logs(log_format: str, log_level: str = "info") -> None:
    """Send this process's log lines to standard error: `text` for people, `json` for programs."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,  # modules made theirs at import, before this call
            "formatters": {"text": {"()": TextLines}, "json": {"()": JsonLines}},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "stream": "ext://sys.stderr",
                    "formatter": log_format,
                }
            },
            "root": {"level": "WARNING", "handlers": ["stderr"]},
            "loggers": {
                "tamis": {"level": log_level.upper()},
                "opentelemetry": {"level": "ERROR"},  # it warns at every failed export to its collector
                # uvicorn's own handlers would write its lines a second time, in its format
                **{name: {"handlers": [], "propagate": True} for name in ("uvicorn", "uvicorn.error")},
            },
        }
    )
    logging.captureWarnings(True)


class JsonLines(logging.Formatter):
    """One JSON object per event: `time`, `level`, `logger`, `event`, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "process": record.process,
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= error_fields(record.exc_info[1])
        return json.dumps(line, default=str)  # ASCII only: a Unicode line separator cannot split a line


class TextLines(logging.Formatter):
    """One line of text per event: time, level, logger, event, then `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = dict(getattr(record, FIELDS, {}))
        if record.exc_info and record.exc_info[1] is not None:
            fields |= error_fields(record.exc_info[1])
        parts = [_time(record), f"{record.levelname:<7}", f"{record.name}:", record.getMessage()]
        line = " ".join([*parts, *(f"{name}={_shown(value)}" for name, value in fields.items())])
        return " ".join(line.splitlines())  # one line per event, also if a value has a line break


def error_fields(error: BaseException) -> dict[str, object]:
    """Return an error's type and the positions of its traceback, innermost last, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: object) -> str:
    if isinstance(value, list):  # of `error_fields`: the innermost position first, as the likely cause
        return " < ".join(map(str, reversed(value)))
    # quoted only if needed: `name=value` must stay one word for tools that split at spaces
    needs_quotes = isinstance(value, str) and (" " in value or not value)
    return json.dumps(value) if needs_quotes else str(value)
