"""What was assumed when data files were read, on standard error and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tamis.cli.terminal import echo
from tamis.data.reader import ReadResult


def say_reading(reading: ReadResult) -> None:
    """Print what was assumed, and what is suspicious about the labels, on one line of standard error each."""
    for line in reading.lines:
        echo(line, err=True)


def describe_reading(reading: ReadResult) -> Mapping[str, Any]:
    """Return how the files were read, for `--json`."""
    return {
        "files": [path.name for path in reading.paths],
        "rows": reading.rows_as_read,
        "encoding": reading.encoding,
        "delimiter": reading.delimiter,
        "columns": asdict(reading.options.columns),
        "unlabelled": reading.unlabelled,
        "assumed": list(reading.assumed),
        "label_problems": [str(problem) for problem in reading.label_problems],
    }


def title_of(data: tuple[str, ...]) -> str:
    """Return how data files are called in titles: the first, and how many follow."""
    return data[0] if len(data) == 1 else f"{data[0]} and {len(data) - 1} more"
