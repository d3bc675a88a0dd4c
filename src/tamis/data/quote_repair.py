"""Quote repair: rows that an unescaped quote hid inside another row's text are recovered.

A quote at the start of a text makes a CSV reader take everything up to the next quote, line ends
included, into one field. What follows is found in two layouts: the file's own (`spam,WIN now`), and
the label, a tab and the text, as corpora are often stored before they become a CSV. The
quote itself is gone: no character is added or removed here.

Handles the cells of suspicious rows and the labels of the file; independent of files.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE_WITH_TAB = re.compile(r"(?:\r\n|\r|\n)([^\t\r\n]+)\t")
# only in these pairs is it clear which of the two labels is the positive one
_POSITIVE_OF = {
    frozenset({"0", "1"}): "1",
    frozenset({"-1", "1"}): "1",
    frozenset({"false", "true"}): "true",
    frozenset({"no", "yes"}): "yes",
}


@dataclass(frozen=True, slots=True)
class SwallowedField:
    """A text that holds further rows; `recovered` is how many came out of it, 0 if it was left as it is."""

    row: int
    recovered: int


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The indices of label and text in a row of this file, and its delimiter."""

    label_column: str
    label: int
    text: int
    delimiter: str


@dataclass(frozen=True, slots=True)
class Repair:
    """What was found; `rows` maps a row's number to the rows its field held, the first being its own.

    `label_words` maps the labels of the file to the words that the swallowed lines use for them.
    """

    found: tuple[SwallowedField, ...]
    rows: Mapping[int, list[list[str]]]
    label_words: Mapping[str, str]


def find_swallowed(
    suspects: Mapping[int, Sequence[str]], layout: RowLayout, labels: Collection[str]
) -> Repair:
    """Look for swallowed rows in `suspects`: the cells, by row number, of rows whose text has line ends."""
    words = _words_for_labels(suspects, layout, labels)
    # a swallowed line may use a label of the file or the word for it
    known = frozenset(labels) | frozenset(words.values())
    rows, found = {}, []
    for row, cells in suspects.items():
        # own layout first: it requires every line to be a whole row, so it hardly matches by chance
        held = _rows_of_own_layout(cells, layout, labels) or _rows_with_tabs(cells, layout, known)
        if held:
            rows[row] = held
        # reported even if it cannot be split: only the user can say what it is
        if held or _looks_foreign(cells, layout, labels):
            found.append(SwallowedField(row, max(0, len(held) - 1)))
    return Repair(tuple(found), rows, words)


def _words_for_labels(
    suspects: Mapping[int, Sequence[str]], layout: RowLayout, labels: Collection[str]
) -> dict[str, str]:
    """Map labels such as 0 and 1 to the words of the swallowed lines, if there is only one way to.

    The column's name is the word for the positive label: `spam` = 1 means spam.
    """
    words = {match[1] for cells in suspects.values() for match in _LINE_WITH_TAB.finditer(cells[layout.text])}
    positive_label = _POSITIVE_OF.get(frozenset(label.casefold() for label in labels))
    # with a third word or label the pairing would be a guess, and a wrong one swaps the classes
    if positive_label is None or len(labels) != 2 or len(words) != 2:
        return {}
    positive_word = next((word for word in words if word.casefold() == layout.label_column.casefold()), None)
    if positive_word is None:
        return {}
    (negative_word,) = words - {positive_word}
    return {label: positive_word if label.casefold() == positive_label else negative_word for label in labels}


def _rows_of_own_layout(cells: Sequence[str], layout: RowLayout, labels: Collection[str]) -> list[list[str]]:
    """Return the rows that the field holds, or none unless every one of its lines is a whole row.

    The cells before the swallowed text belong to the first of these rows, those after it to the last.
    """
    delimiter = layout.delimiter
    # csv has removed the quotes of the other cells: without them they would be split at their delimiters
    raw = [cell if i == layout.text else _quoted(cell, delimiter) for i, cell in enumerate(cells)]
    lines = _LINE_END.split(delimiter.join(raw).rstrip("\r\n"))
    rows = [_parse_line(line, delimiter) for line in lines]
    if layout.text == len(cells) - 1:
        # Nothing follows the text, so its first line is a text whatever it holds.
        first_line = _LINE_END.split(cells[layout.text], maxsplit=1)[0]
        rows[0] = _with(cells, layout, cells[layout.label], first_line)
    whole = all(_is_row(row, len(cells), layout, labels) for row in rows)
    return rows if whole and len(rows) > 1 else []


def _quoted(cell: str, delimiter: str) -> str:
    needs_quotes = delimiter in cell or '"' in cell
    return '"' + cell.replace('"', '""') + '"' if needs_quotes else cell


def _parse_line(line: str, delimiter: str) -> list[str]:
    try:
        # strict: otherwise a quote within a text silently takes the rest of the line
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:  # a quote that is part of the text, not around it
        return line.split(delimiter)


def _is_row(cells: list[str], width: int, layout: RowLayout, labels: Collection[str]) -> bool:
    return len(cells) == width and cells[layout.label].strip(" ") in labels


def _rows_with_tabs(cells: Sequence[str], layout: RowLayout, known: Collection[str]) -> list[list[str]]:
    """Return the rows that start with a known label and a tab; other lines stay with the row before them."""
    text = cells[layout.text]
    # texts hold tabs, too: only a known label begins a row
    starts = [match for match in _LINE_WITH_TAB.finditer(text) if match[1] in known]
    if not starts:
        return []
    ends = [match.start() for match in starts] + [len(text)]
    # the first row is the one that swallowed the others: it keeps its own label
    rows = [_with(cells, layout, cells[layout.label], text[: ends[0]])]
    for match, end in zip(starts, ends[1:], strict=True):
        rows.append(_with(cells, layout, match[1], text[match.end() : end]))
    return rows


def _with(cells: Sequence[str], layout: RowLayout, label: str, text: str) -> list[str]:
    changed = list(cells)
    changed[layout.label], changed[layout.text] = label, text
    return changed


def _looks_foreign(cells: Sequence[str], layout: RowLayout, labels: Collection[str]) -> bool:
    """Return whether the text seems to hold rows that cannot be read: of this file's layout, or a table's."""
    # the first line is the text of the row itself
    further = _LINE_END.split(cells[layout.text])[1:]
    if any(_is_row(_parse_line(line, layout.delimiter), len(cells), layout, labels) for line in further):
        return True
    # prose has commas and semicolons, too, but hardly ever tabs: one tab per line is enough
    for delimiter, min_count in ((",", 2), (";", 2), ("\t", 1)):
        counts = Counter(line.count(delimiter) for line in further if line.count(delimiter) >= min_count)
        alike = max(counts.values(), default=0)
        # one line with delimiters may be prose; half of them with the same number are a table
        if alike >= 2 and 2 * alike >= len(further):
            return True
    return False
