"""The steps from a file to training and test part, with texts of the file: `tamis prepare -v`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from tamis.cli.audit import WIDTH
from tamis.cli.terminal import make_console, shortened
from tamis.data.reader import ReadResult
from tamis.models.linear.features import FeatureSettings, count_features
from tamis.models.network.tokenizer import Tokenizer, pad
from tamis.normalization import canonical
from tamis.training.prepare import Prepared, PrepareSettings
from tamis.types import Dataset

_WORKSHOP_WORDS, _WORKSHOP_TOKENS = 280, 300  # of the workshop "AI as an API"
_TOKENS_SHOWN = 12
_LABELS_SHOWN = 8
_FEATURES_SHOWN = 8
_CLUSTER_SHOWN = 4


def show_walkthrough(reading: ReadResult, prepared: Prepared) -> None:
    """Print every step from the file's bytes to the two parts."""
    console = make_console(width=WIDTH)
    placed = _assigned(prepared)
    sizes = Counter(one.group for one in placed)
    steps = [
        _reading(reading, prepared),
        *_one_text(_example(prepared.train), prepared.train),
        _grouping(placed, sizes, prepared.settings.reading.columns.group),
        _dividing(placed, sizes, prepared.settings),
    ]
    for step, (title, *details) in enumerate(steps, start=1):
        console.print(_indented(Text(title, "bold"), f"{step}."))
        for line in details:
            console.print(_indented(Text(line), ""))
        console.print()


def _indented(text: Text, number: str) -> Table:
    """Return the text to the right of its step's number, wrapped."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=2)
    grid.add_column(ratio=1)
    grid.add_row(number, text)
    return grid


def _reading(reading: ReadResult, prepared: Prepared) -> list[str]:
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
    """Return the index of a text of the rarest class, of medium length, not in canonical form if possible."""
    rarest = min(Counter(data.labels).items(), key=lambda item: (item[1], item[0]))[0]
    # near 70 characters: it fits one line
    length_first = sorted(range(len(data)), key=lambda i: abs(len(data.texts[i]) - 70))
    # so that the step shows a difference
    changed = [i for i in length_first if canonical(data.texts[i]) != data.texts[i]]
    return next(i for i in [*changed, *length_first] if data.labels[i] == rarest)


def _one_text(index: int, data: Dataset) -> Iterator[list[str]]:
    text = canonical(data.texts[index])
    yield [
        "Bring each text into canonical form: Unicode NFKC, runs of blanks as one space",
        f"row {data.rows[index]}:   {data.texts[index]!r:.200}",
        f"becomes:  {text!r:.200}",
    ]
    yield from _as_a_network_reads_it(text, data)
    yield [
        "Turn the label into a one-hot vector: 1 at the label's index, 0 elsewhere",
        f"labels:   {_first(data.classes, _LABELS_SHOWN)}",
        f"{data.labels[index]!r} becomes {_one_hot(data.labels[index], data.classes)}",
    ]
    settings = FeatureSettings()
    features = count_features([text], settings).features.tolist()
    yield [
        "For the linear model: extract features instead of numbering words",
        f"words, word pairs, character n-grams of {settings.ngram_min} to {settings.ngram_max} characters, "
        f"shapes, sizes, each hashed to a number below {1 << settings.bits:,}",
        f"{len(features)} features: {_first(features, _FEATURES_SHOWN)}",
    ]


def _as_a_network_reads_it(text: str, data: Dataset) -> Iterator[list[str]]:
    """Yield the workshop's preparation: words, their numbers in a vocabulary, and padding."""
    tokenizer = Tokenizer.fit([canonical(one) for one in data.texts], num_words=_WORKSHOP_WORDS)
    words = tokenizer.words(text)
    yield [
        "For a network: split each text into words, in small letters and without punctuation",
        f"{len(words)} words: {_first(words, _TOKENS_SHOWN)}",
    ]
    (numbers,) = tokenizer.sequences([text], max_tokens=_WORKSHOP_TOKENS)
    pairs = [f"{word}={tokenizer.word_index.get(word, '-')}" for word in words]
    yield [
        f"Number the {len(tokenizer.word_index)} most frequent words of the training part, from 1 on",
        f"vocabulary: {_first([*tokenizer.word_index], _TOKENS_SHOWN)}",
        f"this text:  {_first(pairs, _TOKENS_SHOWN)}   (- is unknown and dropped)",
        f"{len(words)} words become {numbers.size} numbers: {_first(numbers.tolist(), _TOKENS_SHOWN)}",
    ]
    (padded,) = pad([numbers], width=_WORKSHOP_TOKENS, left=True)
    last = " ".join(map(str, padded[-_TOKENS_SHOWN:].tolist()))
    yield [
        f"Pad each text on the left with zeros to {_WORKSHOP_TOKENS} numbers, the length of all texts",
        f"{padded.size - numbers.size} zeros and {numbers.size} numbers: 0 0 0 … {last}",
    ]


def _one_hot(label: str, classes: Sequence[str]) -> str:
    if len(classes) > _LABELS_SHOWN:
        return f"1 at position {classes.index(label) + 1} of {len(classes):,}"
    return f"[{' '.join('1' if one == label else '0' for one in classes)}]"


def _first(items: Sequence[object], n: int) -> str:
    return " ".join(map(str, items[:n])) + (" …" if len(items) > n else "")


class _Assigned(NamedTuple):
    """An example and the part it was assigned to."""

    part: str
    row: int
    label: str
    group: str
    text: str

    def __str__(self) -> str:
        return f"{self.part:8}  row {self.row:<6} {shortened(self.label, 10):10}  {shortened(self.text, 40)}"


def _assigned(prepared: Prepared) -> list[_Assigned]:
    return [
        _Assigned(part, row, label, group, text)
        for part, data in (("training", prepared.train), ("test", prepared.test))
        for row, label, group, text in zip(data.rows, data.labels, data.groups or (), data.texts, strict=True)
    ]


def _grouping(placed: list[_Assigned], sizes: Counter[str], column: str | None) -> list[str]:
    if column is not None:
        title = f"Group rows by the column {column!r}"
    else:
        title = (
            "Find near duplicates: texts that share four fifths of their 5-letter n-grams, ignoring numbers"
        )
    larger = sum(size > 1 for size in sizes.values())
    lines = [title, f"{len(sizes):,} groups, {larger:,} of them of two or more rows"]
    return [*lines, *map(str, _example_cluster(placed, sizes))]


def _example_cluster(placed: list[_Assigned], sizes: Counter[str]) -> list[_Assigned]:
    """Return different texts of one group, from both parts if a group was split."""
    clusters: dict[str, dict[str, _Assigned]] = defaultdict(dict)
    for example in placed:
        if sizes[example.group] > 1:
            clusters[example.group].setdefault(example.text, example)
    parts_of = {group: len({one.part for one in cluster.values()}) for group, cluster in clusters.items()}
    # a group in both parts first, because it shows why groups are kept together
    best = max(
        clusters, key=lambda group: (parts_of[group], min(len(clusters[group]), _CLUSTER_SHOWN)), default=None
    )
    cluster = list(clusters[best].values()) if best is not None else []
    return [*cluster[: _CLUSTER_SHOWN - 1], *cluster[-1:]] if len(cluster) > _CLUSTER_SHOWN else cluster


def _dividing(placed: list[_Assigned], sizes: Counter[str], settings: PrepareSettings) -> list[str]:
    lines = [f"Split: {1 - settings.test_size:.0%} for training, {settings.test_size:.0%} for testing"]
    if settings.split == "random":
        lines.append(f"the rows are shuffled (seed {settings.seed}); the first ones are the test part")
        lines.append("near duplicates may be in both parts, so the metrics are too optimistic")
    else:
        lines.append(
            "a group of several rows is kept together; the largest are assigned first, to balance labels"
        )
        lines.append(f"single rows are shuffled (seed {settings.seed}) and assigned label by label")
    for part in ("training", "test"):
        some = [one for one in placed if one.part == part]
        grouped = [one for one in some if sizes[one.group] > 1][:1]
        alone = [one for one in some if sizes[one.group] == 1][:1]
        lines += [f"{one}  ({_why(one, sizes, settings)})" for one in (*grouped, *alone)]
    return lines


def _why(one: _Assigned, sizes: Counter[str], settings: PrepareSettings) -> str:
    if settings.split == "random":
        return "by the shuffle"
    others = sizes[one.group] - 1
    return f"with the {others} other{'' if others == 1 else 's'} of its group" if others else "a single row"
