"""Training data plus feedback: what the next version learns, and what it is compared on.

A fixed share of the feedback is held out by a hash of its text, the same texts at every retraining: neither
the old nor the new version learns them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from tamis.normalization import canonical
from tamis.training.compare import Comparison
from tamis.types import Dataset

HELD_OUT_PERCENT = 20
SOURCE = "feedback"
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Correction:
    """A text with its true label, as reported; later ones come later."""

    text: str
    label: str


@dataclass(frozen=True)
class Merged:
    """The data to train on, the held-out feedback, and what was contradictory.

    contradictions: how many texts of the training data got another label from feedback
    disagreements:  how many texts got more than one label in the feedback; the latest is used
    new_labels:     labels that the training data lacks
    """

    train: Dataset
    held_out: Dataset
    contradictions: int
    disagreements: int
    new_labels: tuple[str, ...]


def merge(data: Dataset, corrections: Iterable[Correction]) -> Merged:
    """Add feedback to training data; the latest label of a text wins, also over the training data's."""
    latest: dict[str, Correction] = {}
    disagreeing: set[str] = set()
    for correction in corrections:
        form = canonical(correction.text)
        if form in latest and latest[form].label != correction.label:
            disagreeing.add(form)
        latest[form] = correction
    held_out = [correction for form, correction in latest.items() if is_held_out(form)]
    learned = {form: correction for form, correction in latest.items() if not is_held_out(form)}
    forms = [canonical(text) for text in data.texts]
    labels = [
        learned[form].label if form in learned else label
        for form, label in zip(forms, data.labels, strict=True)
    ]
    contradictions = sum(label != before for label, before in zip(labels, data.labels, strict=True))
    known = set(forms)
    # a text that is held out is left out of the training data, too: otherwise the new version would know it
    kept = [index for index, form in enumerate(forms) if form not in latest or not is_held_out(form)]
    new = [correction for form, correction in learned.items() if form not in known]
    return Merged(
        _with_rows(data, labels, kept, new),
        _dataset(held_out),
        contradictions,
        len(disagreeing),
        tuple(sorted({one.label for one in latest.values()} - set(data.labels))),
    )


def is_held_out(canonical_text: str) -> bool:
    """Return whether feedback on this text is kept for comparing versions."""
    digest = blake2b(
        canonical_text.encode("utf-8", "surrogatepass"), digest_size=4, person=b"tamis-heldout"
    ).digest()
    return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


def is_not_worse(comparison: Comparison) -> bool:
    """Return whether the second model is not significantly worse than the first at the 95 % level."""
    return comparison.only_second >= comparison.only_first or comparison.p_value >= _SIGNIFICANT


def _with_rows(
    data: Dataset, labels: Sequence[str], kept: Sequence[int], new: Sequence[Correction]
) -> Dataset:
    last = max(data.rows, default=0)
    return Dataset(
        texts=[*(data.texts[index] for index in kept), *(one.text for one in new)],
        labels=[*(labels[index] for index in kept), *(one.label for one in new)],
        rows=[*(data.rows[index] for index in kept), *range(last + 1, last + 1 + len(new))],
        sources=_extended(data.sources, kept, len(new), SOURCE),
        groups=_extended(data.groups, kept, len(new), ""),
    )


def _extended(column: Sequence[str] | None, kept: Sequence[int], n_new: int, value: str) -> list[str] | None:
    return None if column is None else [*(column[index] for index in kept), *[value] * n_new]


def _dataset(corrections: Sequence[Correction]) -> Dataset:
    return Dataset(
        texts=[one.text for one in corrections],
        labels=[one.label for one in corrections],
        rows=list(range(1, len(corrections) + 1)),
    )
