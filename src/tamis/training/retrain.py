"""Training data plus feedback: what the next version learns, and what it is compared on.

A fixed share of the feedback is held out by a hash of its text, the same texts at every retraining: neither
the old nor the new version learns them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from tamis.normalization import canonical
from tamis.training.compare import Comparison
from tamis.training.prepare import joined_rows
from tamis.types import Dataset

HELD_OUT_PERCENT = 20
SOURCE = "feedback"
_SIGNIFICANT = 0.05  # the p-value below which a difference is not explained by chance


@dataclass(frozen=True, slots=True)
class Correction:
    """A text with its true label, as reported by a client."""

    text: str
    label: str


@dataclass(frozen=True)
class Merged:
    """The data to train on, the held-out feedback, and what was contradictory.

    contradictions: number of rows of the training data that got another label from feedback
    disagreements:  number of texts that got more than one label in the feedback; the latest is used
    new_labels:     labels that the training data lacks
    """

    train: Dataset
    held_out: Dataset
    contradictions: int
    disagreements: int
    new_labels: tuple[str, ...]


def merge(data: Dataset, corrections: Iterable[Correction]) -> Merged:
    """Add feedback, the oldest first, to training data.

    The latest label of a text replaces earlier ones, and that of the training data.
    """
    latest: dict[str, Correction] = {}
    disagreeing: set[str] = set()
    for correction in corrections:
        form = canonical(correction.text)  # texts with the same form get the same prediction
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
    added = _dataset(new, first_row=max(data.rows, default=0) + 1)
    # a text of feedback belongs to no group of the file; both columns are left out if the file has none
    added = replace(added, sources=[SOURCE] * len(new), groups=[""] * len(new))
    return Merged(
        joined_rows(replace(data, labels=labels).select(kept), added),
        _dataset(held_out),
        contradictions,
        len(disagreeing),
        tuple(sorted({one.label for one in latest.values()} - set(data.labels))),
    )


def is_held_out(canonical_text: str) -> bool:
    """Return whether feedback on this text is kept for comparing versions."""
    # of the text and nothing else, so that every retraining holds the same texts out; `person` keeps the
    # digest independent of others that Tamis takes of texts
    digest = blake2b(
        canonical_text.encode("utf-8", "surrogatepass"), digest_size=4, person=b"tamis-heldout"
    ).digest()
    return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


def is_not_worse(comparison: Comparison) -> bool:
    """Return whether the second model is not significantly worse than the first at the 95 % level."""
    return comparison.only_second >= comparison.only_first or comparison.p_value >= _SIGNIFICANT


def _dataset(corrections: Sequence[Correction], first_row: int = 1) -> Dataset:
    rows = [*range(first_row, first_row + len(corrections))]
    return Dataset([one.text for one in corrections], [one.label for one in corrections], rows)
