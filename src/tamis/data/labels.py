"""Labels: one spelling each, and what is suspicious about them.

Label problems are labels that are probably one, or mean a missing one. Label issues are examples whose
label is probably wrong, by confident learning (Northcutt, Jiang and Chuang, JAIR 2021): a class's own
average probability is the model's confidence in it. Shortcuts are single words and shapes
that give a label away; a model that relies on one fails when the data changes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

# what pandas, R, SQL and spreadsheets write for a missing value
_PLACEHOLDERS = frozenset(
    {"nan", "null", "n/a", "#n/a", "na", "<na>", "-", "--", "none", "nil", "empty", "(empty)"}
)
_NUMBER = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")
# a data set of many labels may have hundreds of variants
_SHOWN = 6


# with many classes the mean confidence of one may be low; a suggestion must still be likelier than not
_MIN_PROBABILITY = 0.5
# the confidence of a class is a mean over its rows: on fewer it is noise
_MIN_ROWS = 10
Probabilities = npt.NDArray[np.float64]
SHAPES = {
    "four or more digits in a row": re.compile(r"\d{4}"),
    "a web address": re.compile(r"https?://|\bwww\.", re.IGNORECASE),
    "a currency sign": re.compile(r"[£$€¥₹]"),
    "a word of four or more capitals": re.compile(r"\b[A-Z]{4}"),
    "several exclamation marks": re.compile(r"!\s*!"),
}
# so that one search of bytes shows whether a slower pattern can match at all
_ALIKE = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", b"A" * 26 + b"0" * 10)
_ASCII_WORD = re.compile(r"\w+")
# in fewer texts a word points to one label by chance
_MIN_TEXTS = 20
# a shortcut must matter for the label, not explain a handful of its texts
_MIN_COVERAGE = 0.02
_MIN_CERTAINTY = 0.8


@dataclass(frozen=True, slots=True)
class LabelProblem:
    """Labels that are probably one label, or that mean a missing one, each with its rows."""

    kind: Literal["variants", "placeholder"]
    rows: Mapping[str, int]

    def __str__(self) -> str:
        """Name the labels with their counts."""
        shown = [f"{label!r} ({rows:,})" for label, rows in list(self.rows.items())[:_SHOWN]]
        more = f" and {len(self.rows) - _SHOWN} more" if len(self.rows) > _SHOWN else ""
        if self.kind == "placeholder":
            return f"{', '.join(shown)}{more} may mean a missing label"
        return f"{', '.join(shown)}{more} may be one label"


def normalise_label(label: str) -> str:
    """Return the label in Unicode form NFC without surrounding blanks."""
    label = label.strip()
    # NFC only: NFKC would merge labels that look different, such as ² and 2
    return label if label.isascii() else unicodedata.normalize("NFC", label)


def label_problems(rows: Mapping[str, int]) -> tuple[LabelProblem, ...]:
    """Return what is suspicious about labels that have so many rows each, the largest group first.

    Labels equal but for case, Unicode compatibility form, runs of blanks, or the notation of a whole
    number (`1`, `1.0`, `01`) may be one; `nan`, `NULL`, `-` and the like may mean a missing label.
    """
    alike: dict[str, dict[str, int]] = defaultdict(dict)
    # the most frequent spelling first: it is the one to keep
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


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def count_labels(counts: Mapping[str, int], *, shown: int | None = None) -> str:
    """Return labels with their rows in words, all of them or the first `shown`."""
    words = [f"{label!r} ({counted(rows, 'row')})" for label, rows in counts.items()]
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


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """A label to look at again.

    index:       index of the example in the data set
    suggested:   the label that the model is confident of
    probability: the model's probability of the suggested label
    """

    index: int
    label: str
    suggested: str
    probability: float


def find_label_issues(
    labels: Sequence[str], probabilities: Probabilities, classes: Sequence[str]
) -> list[LabelIssue]:
    """Return the examples with a probably wrong label, the most doubtful first.

    probabilities: [n, classes] by models that were not trained on the example

    A label is doubtful if its probability is less than half its class's average, and another label
    has at least one half and its own class's average. Labels of fewer than ten rows are left out on
    either side: such a class has no average worth the name.
    """
    index_of = {label: i for i, label in enumerate(classes)}
    given = np.fromiter((index_of[label] for label in labels), np.intp, len(labels))
    of_given = np.take_along_axis(probabilities, given[:, None], axis=1)[:, 0]
    rows_of_class = np.bincount(given, minlength=len(classes))
    confidence = np.bincount(given, of_given, minlength=len(classes)) / np.maximum(rows_of_class, 1)
    # the given label cannot be its own suggestion
    others = np.where(np.arange(len(classes)) == given[:, None], -np.inf, probabilities)
    others[(probabilities < np.maximum(confidence, _MIN_PROBABILITY)) | (rows_of_class < _MIN_ROWS)] = -np.inf
    suggested = others.argmax(axis=1)
    of_suggested = others.max(axis=1)
    is_judged = np.isfinite(of_suggested) & (rows_of_class[given] >= _MIN_ROWS)
    doubtful = np.flatnonzero((of_given < confidence[given] / 2) & is_judged)
    ranked = doubtful[np.argsort((of_given - of_suggested)[doubtful], kind="stable")]
    return [LabelIssue(int(i), labels[i], classes[suggested[i]], float(of_suggested[i])) for i in ranked]


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A word or shape, the label it points to, and how reliable it is.

    texts:     how many texts have it
    precision: share of these that have the label
    coverage:  share of the label's texts that have it
    """

    feature: str
    label: str
    texts: int
    precision: float
    coverage: float


def find_shortcuts(
    texts: Sequence[str], labels: Sequence[str], *, per_label: int = 5
) -> tuple[Shortcut, ...]:
    """Return the strongest shortcuts of each label.

    A feature counts if it is in 20 texts and in 2 % of the label's, and removes at least four fifths
    of the uncertainty that the label's share leaves. Strongest first: coverage times the share of
    uncertainty removed.
    """
    totals = Counter(labels)
    by_label = _count_features(texts, labels)
    n_texts: Counter[str] = Counter()
    for counts in by_label.values():
        n_texts.update(counts)
    frequent = {feature: n for feature, n in n_texts.items() if n >= _MIN_TEXTS}
    found: dict[str, list[Shortcut]] = {label: [] for label in sorted(totals)}
    for label, counts in by_label.items():
        for feature in counts.keys() & frequent.keys():
            n, count = frequent[feature], counts[feature]
            what = feature if feature in SHAPES else f"the word {feature!r}"
            shortcut = Shortcut(what, label, n, count / n, count / totals[label])
            certainty = _certainty(shortcut, totals[label] / len(labels))
            if shortcut.coverage >= _MIN_COVERAGE and certainty >= _MIN_CERTAINTY:
                found[label].append(shortcut)

    def strongest_first(shortcut: Shortcut) -> tuple[float, str]:
        certainty = _certainty(shortcut, totals[shortcut.label] / len(labels))
        return -certainty * shortcut.coverage, shortcut.feature

    return tuple(one for ones in found.values() for one in sorted(ones, key=strongest_first)[:per_label])


def _count_features(texts: Sequence[str], labels: Sequence[str]) -> Mapping[str, Counter[str]]:
    """Return for each label in how many of its texts each word, or shape by its name, is."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in zip(texts, labels, strict=True):
        # words are counted without case; shapes need it, so they get the text
        lower = text.lower()
        pattern = _ASCII_WORD if lower.isascii() else _word_pattern()
        counts[label].update({*pattern.findall(lower), *_shapes_in(text, lower)})
    return counts


def _shapes_in(text: str, lower: str) -> Iterator[str]:
    """Yield the names of the shapes in `text`; only those that it may have are searched for."""
    # each capital becomes A, each digit 0
    alike = text.encode("utf-8", "replace").translate(_ALIKE)
    # in the order of SHAPES; currency signs have no cheap test
    may_have = (
        b"0000" in alike or not text.isascii(),
        "://" in lower or "www." in lower,
        True,
        b"AAAA" in alike,
        "!" in text,
    )
    for (name, shape), possible in zip(SHAPES.items(), may_have, strict=True):
        if possible and shape.search(text):
            yield name


def _certainty(shortcut: Shortcut, prior: float) -> float:
    """Return how much of the uncertainty that the label's share `prior` leaves is gone: 0 none, 1 all."""
    return (shortcut.precision - prior) / (1 - prior) if prior < 1 else 0.0


@cache
def _word_pattern() -> re.Pattern[str]:
    r"""Return `\w+` with combining marks: many scripts write vowels as marks, which `\w` leaves out."""
    marks = [chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    return re.compile(rf"\w[\w{''.join(marks)}]*")
