"""What the texts of the test part looked like to the model: `profile.json`, against which drift is measured.

Every histogram is by predicted label, as a service sees its texts, which have no true label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tamis.artifact.manifest import decode_json

PROFILE_FILE = "profile.json"
N_SHARE_BINS = 20
"""Bins of equal width from 0 to 1."""
N_LENGTH_BINS = 24
"""Bin k has lengths from 2**k - 1 characters, the last all longer ones."""

Counts = list[int]


class TrainingProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Histograms over held-out texts, and the labels of what was learned.

    learned:    rows of each label that the saved model has learned
    predicted:  held-out texts of each predicted label
    confidence: by predicted label, the probability of that label in bins of equal width
    length:     by predicted label, characters of the canonical text in bins that double
    unknown:    by predicted label, the share of a text's features that the model does not know, in bins of
                equal width; None for models that have no such share
    """

    learned: dict[str, int]
    predicted: dict[str, int]
    confidence: dict[str, Counts]
    length: dict[str, Counts]
    unknown: dict[str, Counts] | None = None

    def to_bytes(self) -> bytes:
        """Return the JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=0) + b"\n"


def training_profile(
    labels: Sequence[str],
    texts: Sequence[str],
    probabilities: npt.NDArray[np.float64],
    *,
    learned: Mapping[str, int],
    unknown: npt.NDArray[np.float64] | None,
) -> TrainingProfile:
    """Return the profile of canonical held-out `texts` with their [texts, labels] probabilities.

    unknown: [texts] share of each text's features that the model does not know
    """
    top = probabilities.argmax(axis=1)
    lengths = np.fromiter(map(len, texts), np.intp, len(texts))

    def by_label(bins: npt.NDArray[np.intp], n_bins: int) -> dict[str, Counts]:
        return {
            label: np.bincount(bins[top == place], minlength=n_bins).tolist()
            for place, label in enumerate(labels)
        }

    return TrainingProfile(
        learned=dict(learned),
        predicted={label: int((top == place).sum()) for place, label in enumerate(labels)},
        confidence=by_label(share_bins(probabilities.max(axis=1)), N_SHARE_BINS),
        length=by_label(length_bins(lengths), N_LENGTH_BINS),
        unknown=None if unknown is None else by_label(share_bins(unknown), N_SHARE_BINS),
    )


def share_bins(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the bin of each number from 0 to 1."""
    return np.minimum((shares * N_SHARE_BINS).astype(np.intp), N_SHARE_BINS - 1)


def length_bins(lengths: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the bin of each number of characters."""
    return np.minimum(np.log2(lengths + 1).astype(np.intp), N_LENGTH_BINS - 1)


def decode_profile(data: bytes) -> TrainingProfile:
    """Read `profile.json`; raises ArtifactError for anything else."""
    return decode_json(data, TrainingProfile, PROFILE_FILE)
