"""How log lines look and where they go: one line an event, on standard error, by one configuration.

Nothing is configured at import. An exception's message is never logged, because it may repeat
a caller's text; its type and traceback positions are.
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
"""The key of `extra` under which an event brings its own fields, a dict."""


def configure_logs(log_format: str, log_level: str = "info") -> None:
    """Send what this process logs to standard error: `text` for people, `json` for programs."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
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
                "opentelemetry": {"level": "ERROR"},  # it warns of every try to reach its collector
                **{name: {"handlers": [], "propagate": True} for name in ("uvicorn", "uvicorn.error")},
            },
        }
    )
    logging.captureWarnings(True)


class JsonLines(logging.Formatter):
    """One JSON object an event: `time`, `level`, `logger`, `event`, and the event's own fields."""

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
        return json.dumps(line, default=str)  # ASCII: no line separator of Unicode can break a line


class TextLines(logging.Formatter):
    """The same for reading: time, level, logger, event, then `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = dict(getattr(record, FIELDS, {}))
        if record.exc_info and record.exc_info[1] is not None:
            fields |= error_fields(record.exc_info[1])
        parts = [_time(record), f"{record.levelname:<7}", f"{record.name}:", record.getMessage()]
        line = " ".join([*parts, *(f"{name}={_shown(value)}" for name, value in fields.items())])
        return " ".join(line.splitlines())


def error_fields(error: BaseException) -> dict[str, object]:
    """Return the kind of an error and the places it passed, innermost last, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error": type(error).__name__,
        "at": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " < ".join(map(str, reversed(value)))
    return (
        json.dumps(value, default=str)
        if isinstance(value, str) and (" " in value or not value)
        else str(value)
    )
