"""The call log as lines for people: aligned columns without control characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import msgspec

from tamis.cli.terminal import shortened
from tamis.service.call_log.formats import LogFormat, summary_document, timestamp
from tamis.storage import CallRecord, HourCount, called_at

_CALLER_WIDTH, _LABEL_WIDTH, _TEXT_WIDTH = 20, 12, 80


@final
class CallLines(LogFormat):
    """One line per call: time, caller, label, score, source of the prediction (cache or model), text."""

    media_type = "text/plain; charset=utf-8"
    is_whole = False

    def rows(self, rows: Sequence[CallRecord]) -> bytes:
        """Return a line for each call."""
        return "".join(f"{_line(call)}\n" for call in rows).encode()


def _line(call: CallRecord) -> str:
    return "  ".join(
        [
            timestamp(called_at(call.id)),
            f"{shortened(call.caller, _CALLER_WIDTH):{_CALLER_WIDTH}}",
            f"{shortened(call.label, _LABEL_WIDTH):{_LABEL_WIDTH}}",
            f"{call.score:.4f}",
            "cache" if call.from_cache else "model",
            shortened(call.text, _TEXT_WIDTH),
        ]
    ).rstrip()


def summary_as_lines(counts: Sequence[HourCount]) -> str:
    """Return a line for each hour and label, and their sum."""
    lines = [f"{one.hour:%Y-%m-%d %H:00}  {shortened(one.label, 40):12}  {one.count:>9,}" for one in counts]
    total = sum(one.count for one in counts)
    return "\n".join([*lines, f"{'all':16}  {'':12}  {total:>9,}"])


def summary_as_json(counts: Sequence[HourCount]) -> str:
    """Return the document that `GET /log/summary` gives."""
    return msgspec.json.encode(summary_document(counts)).decode()
