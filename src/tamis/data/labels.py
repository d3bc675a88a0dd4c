"""One spelling per label: blanks stripped, Unicode form NFC; and labels that are probably one.

Knows labels and their counts; does not know texts or files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_PLACEHOLDERS = frozenset(
    {"nan", "null", "n/a", "#n/a", "na", "<na>", "-", "--", "none", "nil", "empty", "(empty)"}
)
_NUMBER = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """Labels that are probably one label, or that stand for a missing one, each with its rows."""

    kind: Literal["variants", "placeholder"]
    rows: Mapping[str, int]

    def __str__(self) -> str:
        """Name the labels with their counts."""
        shown = [f"{label!r} ({rows:,})" for label, rows in list(self.rows.items())[:_SHOWN]]
        more = f" and {len(self.rows) - _SHOWN} more" if len(self.rows) > _SHOWN else ""
        if self.kind == "placeholder":
            return f"{', '.join(shown)}{more} may stand for a missing label"
        return f"{', '.join(shown)}{more} may be one label"


def normalise_label(label: str) -> str:
    """Return the label in Unicode form NFC without surrounding blanks."""
    label = label.strip()
    return label if label.isascii() else unicodedata.normalize("NFC", label)


def label_problems(rows: Mapping[str, int]) -> tuple[LabelProblem, ...]:
    """Return what is suspicious about labels that have so many rows each, the largest group first.

    Labels equal but for case, Unicode compatibility form, runs of blanks, or the notation of a whole
    number (`1`, `1.0`, `01`) may be one; `nan`, `NULL`, `-` and their like may stand for none.
    """
    alike: dict[str, dict[str, int]] = defaultdict(dict)
    for label in sorted(rows, key=lambda one: (-rows[one], one)):
        alike[_key(label)][label] = rows[label]
    variants = [LabelProblem("variants", found) for found in alike.values() if len(found) > 1]
    placeholders = {
        label: count for key in alike if key in _PLACEHOLDERS for label, count in alike[key].items()
    }
    found = [*variants, *([LabelProblem("placeholder", placeholders)] if placeholders else [])]
    return tuple(sorted(found, key=lambda problem: -sum(problem.rows.values())))


def _key(label: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    number = _NUMBER.fullmatch(folded)
    return f"{number[1].strip('+')}{number[2]}" if number else folded


def count_labels(counts: Mapping[str, int], *, shown: int | None = None) -> str:
    """Return labels with their rows in words, all of them or the first `shown`."""
    words = [f"{label!r} ({rows:,} row{'' if rows == 1 else 's'})" for label, rows in counts.items()]
    if shown is None or len(words) <= shown:
        return ", ".join(words)
    return f"{', '.join(words[:shown])} and {len(words) - shown:,} more"


def describe_unmeasured(unmeasured: Mapping[str, int]) -> str:
    """Return in words which labels are learned without being measured, and why."""
    are = "1 label is" if len(unmeasured) == 1 else f"{len(unmeasured):,} labels are"
    return (
        f"{are} learned and not measured, for lack of a second distinct text: {count_labels(unmeasured)}; "
        "see --min-rows and --merge-rare"
    )
