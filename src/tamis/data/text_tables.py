"""Opens a text file as what its first line shows: delimited, JSON lines or fastText's label lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tamis.data.delimited import DelimitedTable
from tamis.data.encoding import FileFacts
from tamis.data.json_lines import JsonLinesTable
from tamis.data.label_lines import PREFIX, LabelLinesTable
from tamis.data.lines import Lines
from tamis.data.options import ReadOptions
from tamis.data.tables import Table
from tamis.errors import DataError
from tamis.types import Progress


@contextmanager
def open_text_table(facts: FileFacts, options: ReadOptions, progress: Progress) -> Iterator[Table]:
    """Open the text file of `facts` for as long as the block runs."""
    stream, file = facts.open_text()
    with stream, file:
        lines = Lines(stream, file, facts.path, size_bytes=facts.size_bytes, progress=progress)
        yield _table(lines, facts, options)


def _table(lines: Lines, facts: FileFacts, options: ReadOptions) -> Table:
    while (first := lines.peek(1)) and not first[0].strip():
        lines.skip()
    if not first:
        raise DataError("is empty; its first line must name the columns", file=facts.path)
    start = first[0].lstrip()
    if options.delimiter is None:
        if start.startswith("{"):
            return JsonLinesTable(lines)
        if start.startswith(PREFIX):
            return LabelLinesTable(lines)
        if start.startswith(("[{", "[\n", "[\r")) or start == "[":
            problem = "is one JSON array; write one object per line instead: jq -c '.[]'"
            raise DataError(problem, file=facts.path)
    return DelimitedTable(lines, facts, options)
