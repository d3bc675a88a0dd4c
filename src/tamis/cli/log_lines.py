"""Formats the call log for a terminal: aligned columns without control characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from tamis.cli.terminal import shortened, shortened_name
from tamis.service.call_log.formats import LogFormat, timestamp
from tamis.storage import CallRecord, HourCount, called_at

_CALLER_WIDTH, _LABEL_WIDTH, _TEXT_WIDTH = 20, 12, 80
_SUMMARY_LABEL_WIDTH = 40


@final
class CallLines(LogFormat):
    """One line per call: time, caller, label, score, `cache` or `model`, text."""

    media_type = "text/plain; charset=utf-8"
    is_whole = False

    def rows(self, rows: Sequence[CallRecord]) -> bytes:
        """Return a line for each call."""
        return "".join(f"{_line(call)}\n" for call in rows).encode()


def _line(call: CallRecord) -> str:
    cells = [
        timestamp(called_at(call.id)),
        f"{shortened_name(call.caller, _CALLER_WIDTH):{_CALLER_WIDTH}}",
        f"{shortened_name(call.label, _LABEL_WIDTH):{_LABEL_WIDTH}}",
        f"{call.score:.4f}",
        "cache" if call.from_cache else "model",
        shortened(call.text, _TEXT_WIDTH),
    ]
    # an empty text, such as with TAMIS_LOG_TEXTS=none, would leave trailing spaces
    return "  ".join(cells).rstrip()


def summary_as_lines(counts: Sequence[HourCount]) -> str:
    """Return a line for each hour and label, and one for the total."""
    rows = [
        (f"{one.hour:%Y-%m-%d %H:00}", shortened_name(one.label, _SUMMARY_LABEL_WIDTH), one.count)
        for one in counts
    ]
    rows.append(("all", "", sum(one.count for one in counts)))
    return "\n".join(f"{hour:16}  {label:{_LABEL_WIDTH}}  {count:>9,}" for hour, label, count in rows)
