"""How a data file is to be read: which columns, which encoding, which delimiter.

One frozen record carries it from the command line to the reader, into a prepared folder and into a
model's manifest, so that the same file is read the same way again. Knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Escape = Literal["auto", "backslash", "none"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that are needed.

    label, text: None to take the usual name, or the only column that can be meant
    source:      may be missing from the file
    group:       must exist if it is named
    """

    label: str | None = None
    text: str | None = None
    source: str | None = "source"
    group: str | None = None


USUAL_COLUMNS = Columns()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file; None and `auto` leave the choice to the reader, which reports what it chose.

    remembered:      the columns that a model was trained with, preferred to a guess
    skip_unlabelled: leave rows without a label out, in place of refusing the file
    strip_html:      remove tags and resolve character references in texts
    """

    columns: Columns = USUAL_COLUMNS
    remembered: Columns | None = None
    encoding: str | None = None
    delimiter: str | None = None
    escape: Escape = "auto"
    has_header: bool = True
    skip_unlabelled: bool = False
    strip_html: bool = False


USUAL_OPTIONS = ReadOptions()


def unusual_options(options: ReadOptions) -> Mapping[str, Any]:
    """Return the options that are not the usual ones, columns aside, by name."""
    usual, found = asdict(USUAL_OPTIONS), asdict(options)
    return {name: found[name] for name in found if name not in _NAMES and found[name] != usual[name]}


_NAMES = frozenset({"columns", "remembered"})
