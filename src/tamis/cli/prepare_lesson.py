"""What happens to a text before a model learns from it, step by step, told with texts of the file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from tamis.cli.audit_page import WIDTH
from tamis.cli.lines import shortened
from tamis.data.reader import ReadResult
from tamis.models.linear.features import FeatureSettings, count_features
from tamis.ngrams import join_texts, word_spans
from tamis.records import Dataset
from tamis.text import canonical
from tamis.training.prepare import Prepared, PrepareSettings

_TOKENS_SHOWN = 12
_FEATURES_SHOWN = 8
_FAMILY_SHOWN = 4


def show_lesson(reading: ReadResult, prepared: Prepared) -> None:
    """Print every step from the file's bytes to the two parts."""
    console = Console(width=WIDTH, highlight=False)
    for step, lines in enumerate(_steps(reading, prepared), start=1):
        title, *told = lines
        console.print(Text(f"{step}. {title}", "bold"))
        for line in told:
            console.print(Text(f"   {line}"), soft_wrap=True)
        console.print()


def _steps(reading: ReadResult, prepared: Prepared) -> Iterator[list[str]]:
    yield _reading(reading, prepared)
    yield from _one_text(_telling_text(prepared.train), prepared.train)
    placed = _placed(prepared)
    sizes = Counter(one.group for one in placed)
    yield _grouping(placed, sizes, prepared.settings.reading.columns.group)
    yield _dividing(placed, sizes, prepared.settings)


def _reading(reading: ReadResult, prepared: Prepared) -> list[str]:
    used = len(prepared.train) + len(prepared.test)
    lines = [
        "Read the file",
        f"{reading.rows_as_read:,} rows ({reading.encoding}, delimiter {reading.delimiter!r})",
    ]
    lines += reading.assumed
    if prepared.settings.split == "random":
        return [*lines, "nothing is repaired and nothing dropped: --split random takes the file as it is"]
    return [*lines, f"{used:,} rows after repair and without empty texts"]


def _telling_text(data: Dataset) -> int:
    """Choose a text of the rarest class and of middling length, if possible one that is not canonical yet."""
    rarest = min(Counter(data.labels).items(), key=lambda item: (item[1], item[0]))[0]
    length_first = sorted(range(len(data)), key=lambda i: abs(len(data.texts[i]) - 70))
    changed = [i for i in length_first if canonical(data.texts[i]) != data.texts[i]]
    return next(i for i in [*changed, *length_first] if data.labels[i] == rarest)


def _one_text(index: int, data: Dataset) -> Iterator[list[str]]:
    text = canonical(data.texts[index])
    yield [
        "Bring each text into its canonical form: one form for look-alike characters, one space for blanks",
        f"row {data.rows[index]}:   {data.texts[index]!r:.200}",
        f"becomes:  {text!r:.200}",
    ]
    joined = join_texts([text])
    spans = word_spans(joined)
    lowered = "".join(map(chr, joined.lower))
    tokens = [lowered[start:end] for start, end in zip(spans.starts, spans.ends, strict=True)]
    yield ["Cut it into tokens", f"{len(tokens)} tokens: {_first(tokens, _TOKENS_SHOWN)}"]
    settings = FeatureSettings()
    features = count_features([text], settings).features.tolist()
    yield [
        "Turn it into features: words, pairs of words, pieces of "
        f"{settings.ngram_min} to {settings.ngram_max} characters, shapes, sizes",
        f"each is hashed to a number below {1 << settings.bits:,}; training keeps those in two texts or more",
        f"{len(features)} features: {_first(features, _FEATURES_SHOWN)}",
    ]
    yield [
        "Take its label, which the model is to learn",
        f"{data.labels[index]!r}, one of {list(data.classes)}",
    ]


def _first(items: list[str] | list[int], n: int) -> str:
    return " ".join(map(str, items[:n])) + (" …" if len(items) > n else "")


class _Placed(NamedTuple):
    """An example and the part it went to."""

    part: str
    row: int
    label: str
    group: str
    text: str

    def __str__(self) -> str:
        return f"{self.part:8}  row {self.row:<6} {self.label:10.10}  {shortened(self.text, 60)}"


def _placed(prepared: Prepared) -> list[_Placed]:
    return [
        _Placed(part, row, label, group, text)
        for part, data in (("training", prepared.train), ("test", prepared.test))
        for row, label, group, text in zip(data.rows, data.labels, data.groups or (), data.texts, strict=True)
    ]


def _grouping(placed: list[_Placed], sizes: Counter[str], column: str | None) -> list[str]:
    if column is not None:
        title = f"Take the groups of the column {column!r}"
    else:
        title = (
            "Find near duplicates: texts that share four fifths of their 5-letter pieces, numbers put aside"
        )
    larger = sum(size > 1 for size in sizes.values())
    told = [title, f"{len(sizes):,} groups, {larger:,} of them of two rows and more"]
    return [*told, *map(str, _telling_family(placed, sizes))]


def _telling_family(placed: list[_Placed], sizes: Counter[str]) -> list[_Placed]:
    """Choose different texts of one group, from both parts if a group was torn apart."""
    families: dict[str, dict[str, _Placed]] = defaultdict(dict)
    for example in placed:
        if sizes[example.group] > 1:
            families[example.group].setdefault(example.text, example)
    torn = {group: len({one.part for one in family.values()}) for group, family in families.items()}
    best = max(
        families, key=lambda group: (torn[group], min(len(families[group]), _FAMILY_SHOWN)), default=None
    )
    family = list(families[best].values()) if best is not None else []
    return [*family[: _FAMILY_SHOWN - 1], *family[-1:]] if len(family) > _FAMILY_SHOWN else family


def _dividing(placed: list[_Placed], sizes: Counter[str], settings: PrepareSettings) -> list[str]:
    told = [f"Divide: {1 - settings.test_size:.0%} to learn from, {settings.test_size:.0%} to test on"]
    if settings.split == "random":
        told.append(f"the rows are shuffled (seed {settings.seed}); the first of them are the test part")
        told.append("near duplicates may stand on both sides, so the test part flatters")
    else:
        told.append(
            "a group of several rows stays whole; the largest goes first, where its labels are lacking"
        )
        told.append(f"rows by themselves are shuffled (seed {settings.seed}) and dealt out, label by label")
    for part in ("training", "test"):
        some = [one for one in placed if one.part == part]
        grouped = [one for one in some if sizes[one.group] > 1][:1]
        alone = [one for one in some if sizes[one.group] == 1][:1]
        told += [f"{one}  ({_why(one, sizes, settings)})" for one in (*grouped, *alone)]
    return told


def _why(one: _Placed, sizes: Counter[str], settings: PrepareSettings) -> str:
    if settings.split == "random":
        return "by the shuffle"
    others = sizes[one.group] - 1
    return f"with the {others} other{'' if others == 1 else 's'} of its group" if others else "by itself"
