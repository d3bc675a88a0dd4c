"""Which columns of a table hold label, text, source and group: by name, or by the only possible choice.

Handles names and sample cells; independent of files.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.data.tables import Columns, Needed, ReadOptions
from tamis.errors import DataError

_USUAL = {"label": "label", "text": "text"}
# column names of public data sets; v1 and v2 are those of the SMS collection on Kaggle
_LABEL_SYNONYMS = """
    label labels class classes category categories target intent sentiment topic tag polarity lang language
    rating v1 y
"""
_TEXT_SYNONYMS = """
    text texts message messages sentence sentences content body review reviews tweet comment comments
    utterance query question document sms email description v2 x
"""
_SYNONYMS = {"label": frozenset(_LABEL_SYNONYMS.split()), "text": frozenset(_TEXT_SYNONYMS.split())}
# longer cells are sentences, not names of classes
_MAX_LABEL_CHARACTERS = 60
# in fewer rows, any column may look like labels by chance
_MIN_ROWS_TO_JUDGE = 6
# an error stays a few lines long for a table of thousands of columns
_COLUMNS_NAMED = 20


@dataclass(frozen=True, slots=True)
class ChosenColumns:
    """The columns of one file: their names, their indices, and which names were guessed."""

    names: Columns
    needed: Needed
    source: int | None
    group: int | None
    guessed: tuple[str, ...]


def count_known_names(header: Sequence[str], options: ReadOptions) -> int:
    """Return how many of label and text a header names, those that were asked for counting double."""
    names = {cell.strip() for cell in header}
    lowered = {name.casefold() for name in names}
    known = 0
    for role in ("label", "text"):
        asked = [name for name in _preferred(role, options) if name is not None]
        # a delimiter under which the named columns exist must win over any synonym
        known += 2 if names & {*asked} else int(bool(lowered & _SYNONYMS[role]))
    return known


def choose_columns(
    header: Sequence[str], sample: Sequence[Sequence[str]], options: ReadOptions, path: Path
) -> ChosenColumns:
    """Return the columns to read; raise DataError that lists what there is if that leaves a doubt."""
    wanted = options.columns
    found = {role: _by_name(role, header, options, path) for role in ("label", "text")}
    guessed = []
    # label first: a text column is guessed among the columns that remain
    for role in ("label", "text"):
        if found[role] is None:
            taken = {index for index in found.values() if index is not None}
            # the names are cells of a row: guessing would lose that row
            is_header = not (options.has_header and _looks_like_a_row(header, sample))
            found[role] = _guess(role, header, sample, taken) if is_header else None
            guessed.append(role)
    label, text = found["label"], found["text"]
    if label is None or text is None:
        missing = "label" if label is None else "text"
        raise DataError(_missing(missing, header, sample, options), file=path)
    if label == text:
        raise DataError("the label and the text cannot be the same column", file=path, column=header[text])
    # the default name may be missing; a group column exists only by request
    source = header.index(wanted.source) if wanted.source in header else None
    group = _index(wanted.group, header, "--group-column", path) if wanted.group is not None else None
    others = tuple(index for index in (source, group) if index is not None)
    for index in (label, text, *others):
        # the second of two equal names could never be chosen
        if header.count(header[index]) > 1:
            raise DataError("the header names this column twice; rename one", file=path, column=header[index])
    names = Columns(header[label], header[text], wanted.source, wanted.group)
    return ChosenColumns(names, Needed(label, text, others), source, group, tuple(guessed))


def choose_text_column(
    header: Sequence[str], sample: Sequence[Sequence[str]], options: ReadOptions, path: Path
) -> ChosenColumns:
    """Return the text column of a file whose labels do not matter; raise DataError if that leaves a doubt."""
    text, guessed = _by_name("text", header, options, path), False
    if text is None and not (options.has_header and _looks_like_a_row(header, sample)):
        # a model was trained on one of the columns: the other one is not the text
        label = _by_name("label", header, ReadOptions(remembered=options.remembered), path)
        text, guessed = _guess("text", header, sample, set() if label is None else {label}), True
    if text is None:
        raise DataError(_missing("text", header, sample, options), file=path)
    names = Columns(None, header[text], None)
    return ChosenColumns(names, Needed(text, text), None, None, ("text",) if guessed else ())


def _preferred(role: str, options: ReadOptions) -> Iterator[str | None]:
    """Yield the names to look for: the user's alone, or else the model's and the usual one."""
    asked = getattr(options.columns, role)
    if asked is not None:
        yield asked
        return
    if options.remembered is not None:
        yield getattr(options.remembered, role)
    yield _USUAL[role]


def _by_name(role: str, header: Sequence[str], options: ReadOptions, path: Path) -> int | None:
    asked = getattr(options.columns, role)
    if asked is not None:
        return _index(asked, header, f"--{role}-column", path)
    return next((header.index(name) for name in _preferred(role, options) if name in header), None)


def _index(name: str, header: Sequence[str], option: str, path: Path) -> int:
    if name in header:
        return header.index(name)
    lowered = {column.casefold(): column for column in header if column}
    nearest = difflib.get_close_matches(name.casefold(), lowered, 1)
    hint = f"; did you mean {option} {lowered[nearest[0]]!r}?" if nearest else ""
    raise DataError(f"has no column {name!r}; it has {_listed(header)}{hint}", file=path)


def _guess(role: str, header: Sequence[str], sample: Sequence[Sequence[str]], taken: set[int]) -> int | None:
    """Return the only column that can have this role, None if there are several or none."""
    free = [i for i, name in enumerate(header) if name and i not in taken]
    named = [i for i in free if header[i].casefold() in _SYNONYMS[role]]
    # a usual name is trusted without a look at the cells
    if len(named) == 1:
        return named[0]
    likely = [i for i in named or free if _fits(role, [row[i] for row in sample if i < len(row)])]
    return likely[0] if len(likely) == 1 else None


def _fits(role: str, cells: Sequence[str]) -> bool:
    """Return whether sample cells can be labels (short, repeated) or texts (long, hardly repeated)."""
    filled = [cell for cell in cells if cell.strip()]
    if len(filled) < _MIN_ROWS_TO_JUDGE:
        return False
    distinct = len(set(filled))
    if role == "label":
        # each label twice on average; one value is no label
        return 2 <= distinct <= len(filled) / 2 and max(map(len, filled)) <= _MAX_LABEL_CHARACTERS
    words = sum(len(cell.split()) for cell in filled) / len(filled)
    characters = sum(map(len, filled)) / len(filled)
    # ASCII without a blank: numbers, codes, dates or addresses
    are_identifiers = all(" " not in cell.strip() and cell.isascii() for cell in filled)
    # texts hardly repeat; 8 characters for scripts without spaces between words
    return distinct > len(filled) / 2 and (words >= 2 or characters >= 8) and not are_identifiers


def _looks_like_a_row(header: Sequence[str], sample: Sequence[Sequence[str]]) -> bool:
    """Return whether a name of the header is also a repeated value below it."""
    for i, name in enumerate(header):
        below = [row[i].strip() for row in sample if i < len(row)]
        if name and below.count(name) >= 2:
            return True
    return False


def _missing(role: str, header: Sequence[str], sample: Sequence[Sequence[str]], options: ReadOptions) -> str:
    if options.has_header and _looks_like_a_row(header, sample):
        return "the first line is a row, not column names; add a header `label,text`, or use --no-header"
    if len(header) == 1:
        return f"has only one column, {_listed(header)}; name what separates the cells with --delimiter"
    return f"has no column {role!r}; it has {_listed(header)}; name the right one with --{role}-column"


def _listed(header: Sequence[str]) -> str:
    more = f" and {len(header) - _COLUMNS_NAMED} more" if len(header) > _COLUMNS_NAMED else ""
    return ", ".join(repr(column[:40]) for column in header[:_COLUMNS_NAMED]) + more
