"""Problems of a labelled data set, as counts and row numbers.

Handles examples and how they were read; independent of models. A caller that has a model passes a
function that returns its probabilities for texts it has not seen. `tamis.data.findings` puts the
counts into words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.data.labels import LabelProblem, Shortcut, find_label_issues, find_shortcuts
from tamis.data.near_duplicates import Indices, KnownShare, known_share, near_duplicate_groups
from tamis.data.quote_repair import SwallowedField
from tamis.data.reader import ReadResult
from tamis.data.split import random_split
from tamis.markup import has_html
from tamis.normalization import canonical, is_blank
from tamis.types import Dataset, Progress, no_progress

Confidence = Callable[[Sequence[str], Sequence[str], Sequence[str]], npt.NDArray[np.float64]]
"""Takes texts, labels and groups; gives [n, classes] probabilities by models that did not see the text.

Classes are in the order of `Dataset.classes`.
"""

# the split of the workshop that published figures on this data: the audit shows what it leaks
_WORKSHOP_TEST_SIZE = 0.33
_WORKSHOP_SEED = 42
# times the 99th percentile: longer texts are mostly several rows in one, or pasted documents
_LONG_FACTOR = 3
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ClassShare:
    """A label, how many rows have it, and what share of all rows that is."""

    label: str
    rows: int
    share: float


@dataclass(frozen=True, slots=True)
class SourceShare:
    """A source, its rows, the share of each label among them, and the median length of its texts."""

    source: str
    rows: int
    label_shares: Mapping[str, float]
    median_characters: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Texts that occur more than once.

    exact:            rows that repeat the very text of an earlier row
    distinct:         clusters of near duplicates, a text without any counted as a cluster of one
    rows_in_clusters: rows in clusters of two or more
    clusters:         the largest clusters
    """

    exact: int
    distinct: int
    rows_in_clusters: int
    clusters: tuple[Cluster, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of near duplicates: its rows by label, and the text of its first row."""

    rows: int
    labels: Mapping[str, int]
    first_row: int
    text: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One text under several labels: the file's rows of each."""

    text: str
    rows: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class LongText:
    """A text far longer than the others of its file."""

    row: int
    characters: int


@dataclass(frozen=True, slots=True)
class LabelIssueRow:
    """A row that probably has a wrong label, and the label that the model gives with `probability`."""

    row: int
    label: str
    suggested: str
    probability: float
    text: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything that the audit found.

    label_problems:  labels that are probably one, or that mean a missing one
    html_rows:       rows whose text has HTML tags or character references
    imbalance:       rows of the largest class for one of the smallest
    assumed:         what was assumed when the file was read
    long_limit:      characters above which a text counts as far too long
    known_test:      share of a random 33 % test part with a near duplicate in the training part
    label_issues: None if no model was asked; the most doubtful 20 of `label_issue_count`
    """

    rows_as_read: int
    rows: int
    classes: tuple[ClassShare, ...]
    imbalance: float
    assumed: tuple[str, ...]
    label_problems: tuple[LabelProblem, ...]
    html_rows: int
    swallowed: tuple[SwallowedField, ...]
    empty_rows: tuple[int, ...]
    constant: tuple[str, ...]
    long_limit: float
    long_texts: tuple[LongText, ...]
    duplicates: Duplicates
    contradictions: tuple[Contradiction, ...]
    shortcuts: tuple[Shortcut, ...]
    sources: tuple[SourceShare, ...]
    known_test: KnownShare | None
    label_issues: tuple[LabelIssueRow, ...] | None
    label_issue_count: int


def audit(
    reading: ReadResult,
    *,
    confidence: Confidence | None = None,
    groups: Indices | None = None,
    progress: Progress = no_progress,
) -> AuditReport:
    """Look for everything that commonly goes wrong with labelled texts; nothing is changed.

    `groups` are those of `near_duplicate_groups` if the caller has them: finding them takes longest.
    """
    data = reading.dataset
    # contradictions and constants are those that a model sees
    texts = [canonical(text) for text in data.texts]
    if groups is None:
        groups = near_duplicate_groups(data.texts, progress=progress)
    # the largest first
    counts = sorted(Counter(data.labels).items(), key=lambda item: (-item[1], item[0]))
    classes = tuple(ClassShare(label, rows, rows / len(data)) for label, rows in counts)
    lengths = np.fromiter(map(len, data.texts), np.intp, len(data))
    long_limit = float(_LONG_FACTOR * np.percentile(lengths, 99))
    doubtful = _label_issues(data, groups, confidence) if confidence is not None else None
    known_test = None
    # a split needs a row on either side
    if len(data) >= 2:
        train, test = random_split(len(data), test_size=_WORKSHOP_TEST_SIZE, seed=_WORKSHOP_SEED)
        known_test = known_share(groups, data.labels, train=train, test=test)
    return AuditReport(
        rows_as_read=reading.rows_as_read,
        rows=len(data),
        classes=classes,
        imbalance=classes[0].rows / classes[-1].rows,
        assumed=reading.choices,
        label_problems=reading.label_problems,
        html_rows=sum(map(has_html, data.texts)),
        swallowed=reading.swallowed,
        empty_rows=tuple(row for row, text in zip(data.rows, data.texts, strict=True) if is_blank(text)),
        constant=tuple(_constant(data, texts)),
        long_limit=long_limit,
        long_texts=tuple(
            LongText(data.rows[i], int(lengths[i])) for i in np.flatnonzero(lengths > long_limit).tolist()
        ),
        duplicates=_duplicates(data, groups),
        contradictions=_contradictions(data, texts),
        shortcuts=find_shortcuts(data.texts, data.labels),
        sources=_sources(data, lengths),
        known_test=known_test,
        label_issues=None if doubtful is None else doubtful[:_SHOWN],
        label_issue_count=len(doubtful or ()),
    )


def _constant(data: Dataset, canonical_texts: Sequence[str]) -> Iterable[str]:
    """Yield what is the same in all rows, or different in all."""
    if len(data.classes) == 1:
        yield f"every row has the label {data.classes[0]!r}"
    # identifiers, or the text column taken for the label
    elif len(data.classes) == len(data) > 2:
        yield f"{len(data):,} labels with one row each"
    texts: dict[str, set[str]] = defaultdict(set)
    for text, label in zip(canonical_texts, data.labels, strict=True):
        texts[label].add(text)
    for label, rows in sorted(Counter(data.labels).items()):
        # such a class is learned by heart
        if rows > 1 and len(texts[label]) == 1:
            yield f"all {rows} texts of {label!r} are the same"
    for name, column in (("source", data.sources), ("group", data.groups)):
        if column is not None and len(set(column)) == 1:
            yield f"every row has the {name} {column[0]!r}"


def _duplicates(data: Dataset, groups: Indices) -> Duplicates:
    sizes = np.bincount(groups)
    # stable: of equal clusters the one that appears first
    largest = np.argsort(-sizes, kind="stable")[:_SHOWN]
    return Duplicates(
        exact=len(data) - len(set(data.texts)),
        distinct=sizes.size,
        rows_in_clusters=int(sizes[sizes > 1].sum()),
        clusters=tuple(
            _cluster(data, np.flatnonzero(groups == group)) for group in largest if sizes[group] > 1
        ),
    )


def _cluster(data: Dataset, members: Indices) -> Cluster:
    labels = Counter(data.labels[i] for i in members)
    first = members[0]
    return Cluster(members.size, dict(sorted(labels.items())), data.rows[first], data.texts[first])


def _contradictions(data: Dataset, texts: Sequence[str]) -> tuple[Contradiction, ...]:
    # two passes: rows are collected for the few disputed texts only
    label_of: dict[str, str] = {}
    disputed = {
        text
        for text, label in zip(texts, data.labels, strict=True)
        if label_of.setdefault(text, label) != label
    }
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for text, label, row in zip(texts, data.labels, data.rows, strict=True):
        if text in disputed:
            rows[text][label].append(row)
    return tuple(
        Contradiction(text, {label: tuple(places) for label, places in sorted(by_label.items())})
        for text, by_label in rows.items()
    )


def _sources(data: Dataset, lengths: Indices) -> tuple[SourceShare, ...]:
    if data.sources is None:
        return ()
    facts = []
    members: dict[str, list[int]] = defaultdict(list)
    for i, source in enumerate(data.sources):
        members[source].append(i)
    for source, rows in sorted(members.items()):
        labels = Counter(data.labels[i] for i in rows)
        shares = {label: count / len(rows) for label, count in sorted(labels.items())}
        facts.append(SourceShare(source, len(rows), shares, float(np.median(lengths[rows]))))
    return tuple(facts)


def _label_issues(data: Dataset, groups: Indices, confidence: Confidence) -> tuple[LabelIssueRow, ...]:
    # folds keep near duplicates together: else a copy in another fold confirms a wrong label
    whole = data.groups if data.groups is not None else [str(group) for group in groups.tolist()]
    probabilities = confidence(data.texts, data.labels, whole)
    return tuple(
        LabelIssueRow(data.rows[s.index], s.label, s.suggested, s.probability, data.texts[s.index])
        for s in find_label_issues(data.labels, probabilities, data.classes)
    )
