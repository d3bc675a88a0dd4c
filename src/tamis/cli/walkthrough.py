"""`tamis prepare -v`: explains each step from the file to its two parts on texts of the file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from tamis.cli.audit import WIDTH
from tamis.cli.terminal import make_console, shortened, shortened_name
from tamis.data.reader import ReadResult
from tamis.models.linear.features import FeatureSettings, count_features
from tamis.models.network.tokenizer import Tokenizer, pad
from tamis.normalization import canonical
from tamis.training.prepare import Prepared, PrepareSettings
from tamis.types import Dataset

_NUM_WORDS, _MAX_TOKENS = 280, 300  # as in the workshop "AI as an API"
_TOKENS_SHOWN = 12
_LABELS_SHOWN = 8
_FEATURES_SHOWN = 8
_CLUSTER_TEXTS_SHOWN = 4
_EXAMPLE_CHARACTERS = 70  # fits one line


def show_walkthrough(reading: ReadResult, prepared: Prepared) -> None:
    """Print each step: a numbered title and the lines below it."""
    console = make_console(width=WIDTH)
    assigned = _assigned_rows(prepared)
    sizes = Counter(row.group for row in assigned)
    steps = [
        _reading_step(reading, prepared),
        *_text_steps(_example(prepared.train), prepared.train),
        _grouping_step(assigned, sizes, prepared.settings.reading.columns.group),
        _splitting_step(assigned, sizes, prepared.settings),
    ]
    for number, (title, *lines) in enumerate(steps, start=1):
        console.print(_indented(Text(title, "bold"), f"{number}."))
        for line in lines:
            console.print(_indented(Text(line), ""))
        console.print()


def _indented(text: Text, number: str) -> Table:
    """Return the text to the right of its step's number, wrapped."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=2)
    grid.add_column(ratio=1)
    grid.add_row(number, text)
    return grid


def _reading_step(reading: ReadResult, prepared: Prepared) -> list[str]:
    used = len(prepared.train) + len(prepared.test)
    lines = [
        "Read the file",
        f"{reading.rows_as_read:,} rows ({reading.encoding}, delimiter {reading.delimiter!r})",
    ]
    lines += reading.assumed
    if prepared.settings.split == "random":
        return [*lines, "nothing is repaired or dropped: --split random takes the file as it is"]
    return [*lines, f"{used:,} rows after repair and without empty texts"]


def _example(data: Dataset) -> int:
    """Return the index of a text of medium length with the rarest label, preferably not in canonical form."""
    rarest = min(Counter(data.labels).items(), key=lambda item: (item[1], item[0]))[0]
    by_length = sorted(range(len(data)), key=lambda i: abs(len(data.texts[i]) - _EXAMPLE_CHARACTERS))
    # otherwise the line after the step would be the same as the line before
    changed = [i for i in by_length if canonical(data.texts[i]) != data.texts[i]]
    return next(i for i in [*changed, *by_length] if data.labels[i] == rarest)


def _text_steps(index: int, data: Dataset) -> Iterator[list[str]]:
    """Yield the steps of a single text and its label."""
    text = canonical(data.texts[index])
    yield [
        "Convert each text to canonical form: NFKC, no invisible characters, single spaces",
        f"row {data.rows[index]}:   {data.texts[index]!r:.200}",
        f"becomes:  {text!r:.200}",
    ]
    yield from _network_steps(text, data)
    yield [
        "Turn the label into a one-hot vector: 1 at the label's index, 0 elsewhere",
        f"labels:   {_first(data.classes, _LABELS_SHOWN)}",
        f"{data.labels[index]!r} becomes {_one_hot(data.labels[index], data.classes)}",
    ]
    settings = FeatureSettings()
    features = count_features([text], settings).features.tolist()
    yield [
        "For the linear model: extract features instead",
        f"words, word pairs, character n-grams of {settings.ngram_min} to {settings.ngram_max} characters, "
        f"shapes, sizes, each hashed to a number below {1 << settings.bits:,}",
        f"{len(features)} features: {_first(features, _FEATURES_SHOWN)}",
    ]


def _network_steps(text: str, data: Dataset) -> Iterator[list[str]]:
    """Yield the steps of the workshop's network: tokens, their numbers in the vocabulary, padding."""
    tokenizer = Tokenizer.fit(list(map(canonical, data.texts)), num_words=_NUM_WORDS)
    words = tokenizer.words(text)
    yield [
        "For a network: split each text into words, in lower case and without punctuation",
        f"{len(words)} words: {_first(words, _TOKENS_SHOWN)}",
    ]
    (numbers,) = tokenizer.sequences([text], max_tokens=_MAX_TOKENS)
    pairs = [f"{word}={tokenizer.word_index.get(word, '-')}" for word in words]
    yield [
        f"Number the {len(tokenizer.word_index)} most frequent words of the training part, from 1 on",
        f"vocabulary: {_first([*tokenizer.word_index], _TOKENS_SHOWN)}",
        f"this text:  {_first(pairs, _TOKENS_SHOWN)}   (- is unknown and dropped)",
        f"{len(words)} words become {numbers.size} numbers: {_first(numbers.tolist(), _TOKENS_SHOWN)}",
    ]
    (padded,) = pad([numbers], width=_MAX_TOKENS, left=True)
    last = " ".join(map(str, padded[-_TOKENS_SHOWN:].tolist()))
    yield [
        f"Pad each text on the left with zeros to {_MAX_TOKENS} numbers, the length of all texts",
        f"{padded.size - numbers.size} zeros and {numbers.size} numbers: 0 0 0 … {last}",
    ]


def _one_hot(label: str, classes: Sequence[str]) -> str:
    if len(classes) > _LABELS_SHOWN:
        return f"1 at position {classes.index(label) + 1} of {len(classes):,}"
    return f"[{' '.join('1' if name == label else '0' for name in classes)}]"


def _first(items: Sequence[object], n: int) -> str:
    return " ".join(map(str, items[:n])) + (" …" if len(items) > n else "")


class _AssignedRow(NamedTuple):
    """A row and the part that it was assigned to."""

    part: str
    row: int
    label: str
    group: str
    text: str

    def __str__(self) -> str:
        label = shortened_name(self.label, 10)
        return f"{self.part:8}  row {self.row:<6} {label:10}  {shortened(self.text, 40)}"


def _assigned_rows(prepared: Prepared) -> list[_AssignedRow]:
    return [
        _AssignedRow(part, row, label, group, text)
        for part, data in (("training", prepared.train), ("test", prepared.test))
        for row, label, group, text in zip(data.rows, data.labels, data.groups or (), data.texts, strict=True)
    ]


def _grouping_step(assigned: list[_AssignedRow], sizes: Counter[str], column: str | None) -> list[str]:
    if column is not None:
        title = f"Group rows by the column {column!r}"
    else:
        title = (
            "Find near duplicates: texts that share four fifths of their 5-letter n-grams, ignoring numbers"
        )
    larger = sum(size > 1 for size in sizes.values())
    lines = [title, f"{len(sizes):,} groups, {larger:,} of them of two or more rows"]
    return [*lines, *map(str, _example_cluster(assigned, sizes))]


def _example_cluster(assigned: list[_AssignedRow], sizes: Counter[str]) -> list[_AssignedRow]:
    """Return different texts of one group, from both parts if a group was split."""
    clusters: dict[str, dict[str, _AssignedRow]] = defaultdict(dict)
    for row in assigned:
        if sizes[row.group] > 1:
            clusters[row.group].setdefault(row.text, row)

    def parts_and_texts(rows: dict[str, _AssignedRow]) -> tuple[int, int]:
        return len({row.part for row in rows.values()}), min(len(rows), _CLUSTER_TEXTS_SHOWN)

    # preferably a group in both parts, because it shows why groups are kept together
    cluster = list(max(clusters.values(), key=parts_and_texts, default={}).values())
    # the rows of the test part come last: the last one is always shown
    if len(cluster) > _CLUSTER_TEXTS_SHOWN:
        return [*cluster[: _CLUSTER_TEXTS_SHOWN - 1], cluster[-1]]
    return cluster


def _splitting_step(
    assigned: list[_AssignedRow], sizes: Counter[str], settings: PrepareSettings
) -> list[str]:
    lines = [f"Split: {1 - settings.test_size:.0%} for training, {settings.test_size:.0%} for testing"]
    if settings.split == "random":
        lines += [
            f"the rows are shuffled (seed {settings.seed}); the first ones are the test part",
            "near duplicates may be in both parts, so the metrics are too optimistic",
        ]
    else:
        lines += [
            "a group of several rows is kept together; the largest are assigned first, to balance labels",
            f"single rows are shuffled (seed {settings.seed}) and assigned label by label",
        ]
    for part in ("training", "test"):
        rows = [row for row in assigned if row.part == part]
        # one row of each case
        grouped = [row for row in rows if sizes[row.group] > 1][:1]
        single = [row for row in rows if sizes[row.group] == 1][:1]
        lines += [f"{row}  ({_reason(row, sizes, settings)})" for row in (*grouped, *single)]
    return lines


def _reason(row: _AssignedRow, sizes: Counter[str], settings: PrepareSettings) -> str:
    """Return why the row was assigned to its part."""
    if settings.split == "random":
        return "by the shuffle"
    others = sizes[row.group] - 1
    return f"with the {others} other{'' if others == 1 else 's'} of its group" if others else "a single row"
