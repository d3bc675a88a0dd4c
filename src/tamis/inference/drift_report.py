"""What a version predicts now against its training profile: one report per window.

A feature is drifting if chance explains the change no longer (p < 0.001) and the change is larger than its
limit. Handles counts and profiles; independent of files and HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.artifact.profile import TrainingProfile
from tamis.inference.drift_sketch import WindowCounts
from tamis.inference.drift_statistics import (
    SIGNIFICANCE,
    HistogramChange,
    ShareChange,
    compare_histograms,
    compare_shares,
)

FEATURES = ("labels", "confidence", "length", "unknown_features")
MIN_TEXTS = 200
"""With fewer texts no drift is reported for a window."""


@dataclass(frozen=True)
class DriftLimits:
    """How large a change may be: of a histogram as PSI, of a label's share as a difference."""

    psi: float
    share: float


@dataclass(frozen=True)
class FeatureDrift:
    """One feature of one window: the change, None with too few counts, and whether it is drifting."""

    change: HistogramChange | None
    is_drifting: bool
    reference: list[float]
    current: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON; without a change its numbers are null."""
        change = self.change
        return {
            "is_drifting": self.is_drifting,
            "psi": change and change.psi,
            "psi_low": change and change.low,
            "psi_high": change and change.high,
            "p_value": change and change.p_value,
            "reference": self.reference,
            "current": self.current,
        }


@dataclass(frozen=True)
class WindowDrift:
    """One window against the profile."""

    window: str
    texts: int
    since: int
    until: int
    features: Mapping[str, FeatureDrift]
    shares: Sequence[ShareChange]

    @property
    def drifting(self) -> list[str]:
        """The features that are drifting."""
        return [name for name, feature in self.features.items() if feature.is_drifting]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "window": self.window,
            "texts": self.texts,
            "since": _time(self.since),
            "until": _time(self.until),
            "is_judged": self.texts >= MIN_TEXTS,
            "drifting": self.drifting,
            "features": {name: feature.as_dict() for name, feature in self.features.items()},
            "labels": [asdict(share) | {"difference": share.difference} for share in self.shares],
        }


def compare_window(
    window: str, counts: WindowCounts, profile: TrainingProfile, labels: tuple[str, ...], limits: DriftLimits
) -> WindowDrift:
    """Compare the counts of a window with the profile of the version that predicted."""
    then = _reference(profile, labels)
    now = {"confidence": counts.confidence, "length": counts.length, "unknown_features": counts.unknown}
    is_judged = counts.texts >= MIN_TEXTS
    reference_labels = np.array([profile.predicted.get(label, 0) for label in labels])
    shares = compare_shares(labels, reference_labels, counts.labels)
    moved = max((abs(share.difference) for share in shares), default=0.0)
    change = compare_histograms(reference_labels, counts.labels, is_ordered=False)
    # either: PSI sees many small changes, the share one label that grew
    is_large = moved > limits.share or (change is not None and change.psi > limits.psi)
    features = {
        "labels": FeatureDrift(
            change,
            is_judged and is_large and _is_significant(change),
            _shares(reference_labels),
            _shares(counts.labels),
        )
    }
    for name, current in now.items():
        features[name] = _feature(name, then[name], current, limits=limits, is_judged=is_judged)
    return WindowDrift(window, counts.texts, counts.since, counts.until, features, shares)


def _feature(
    name: str, then: npt.NDArray[Any], now: npt.NDArray[Any], *, limits: DriftLimits, is_judged: bool
) -> FeatureDrift:
    reference, current = then.sum(axis=0), now.sum(axis=0)
    change = compare_histograms(reference, current)
    is_large = change is not None and change.psi > limits.psi
    if name == "unknown_features":
        # the saved model has learned more texts than the measured one, so that it knows more features
        is_large = is_large and _mean_bin(current) > _mean_bin(reference)
    return FeatureDrift(
        change, is_judged and is_large and _is_significant(change), _shares(reference), _shares(current)
    )


def compare_by_label(
    counts: WindowCounts, profile: TrainingProfile, labels: tuple[str, ...]
) -> dict[str, dict[str, HistogramChange | None]]:
    """Compare the texts of each predicted label that has enough of them."""
    then = _reference(profile, labels)
    now = {"confidence": counts.confidence, "length": counts.length, "unknown_features": counts.unknown}
    return {
        label: {name: compare_histograms(then[name][index], now[name][index]) for name in then}
        for index, label in enumerate(labels)
        if counts.labels[index] >= MIN_TEXTS
    }


def _reference(profile: TrainingProfile, labels: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return [labels, bins] of each histogram; a model without unknown features has zeros there."""

    def rows(histograms: Mapping[str, Sequence[int]], like: Mapping[str, Sequence[int]]) -> npt.NDArray[Any]:
        return np.array([histograms.get(label) or [0] * len(like[label]) for label in labels])

    return {
        "confidence": rows(profile.confidence, profile.confidence),
        "length": rows(profile.length, profile.length),
        "unknown_features": rows(profile.unknown or {}, profile.confidence),
    }


def _is_significant(change: HistogramChange | None) -> bool:
    return change is not None and change.p_value < SIGNIFICANCE


def _mean_bin(counts: npt.NDArray[Any]) -> float:
    return float((counts * np.arange(counts.size)).sum() / max(1, counts.sum()))


def _shares(counts: npt.NDArray[Any]) -> list[float]:
    shares: list[float] = (counts / max(1, counts.sum())).tolist()
    return shares


def _time(nanoseconds: int) -> str | None:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat() if nanoseconds else None
