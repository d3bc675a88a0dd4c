"""How much recall a model loses when texts are disguised.

Knows a function from texts to probabilities; does not know models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.artifact import OperatingPoint
from tamis.training.evaluation import Estimate, proportion_of_some
from tamis.training.perturb import PERTURBATIONS

Probabilities = npt.NDArray[np.float64]

_MOST_TEXTS = 2000


@dataclass(frozen=True)
class Perturbation:
    """Recall of the same texts as they are and disguised; `drop` is what is lost."""

    name: str
    texts: int
    plain: Estimate
    disguised: Estimate

    @property
    def drop(self) -> float:
        """Recall that is lost; below 0 where the disguise itself gives the text away."""
        return self.plain.value - self.disguised.value


def robustness(
    score: Callable[[Sequence[str]], Probabilities],
    texts: Sequence[str],
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    operating_point: OperatingPoint | None,
    seed: int = 42,
) -> tuple[Perturbation, ...]:
    """Measure every perturbation: with two labels on texts of the positive one, at the operating point.

    With more labels, on all texts: the share whose own label stays the most probable. Of very many
    texts 2,000 are drawn.
    """
    if operating_point is not None:
        kept = [i for i, label in enumerate(labels) if label == operating_point.positive]
    else:
        kept = list(range(len(labels)))
    if len(kept) > _MOST_TEXTS:
        drawn = np.random.default_rng(seed).choice(len(kept), _MOST_TEXTS, replace=False)
        kept = [kept[i] for i in sorted(drawn.tolist())]
    if not kept:
        return ()
    chosen, true = [texts[i] for i in kept], [classes.index(labels[i]) for i in kept]

    def recall(of: Sequence[str]) -> Estimate:
        return proportion_of_some(_found(score(of), np.asarray(true), operating_point).sum(), len(of))

    plain = recall(chosen)
    return tuple(
        Perturbation(name, len(chosen), plain, recall([change(text, random) for text in chosen]))
        for name, change in PERTURBATIONS.items()
        for random in [np.random.default_rng(seed)]
    )


def _found(
    probabilities: Probabilities, true: npt.NDArray[np.intp], point: OperatingPoint | None
) -> npt.NDArray[np.bool_]:
    of_label = probabilities[np.arange(true.size), true]
    found: npt.NDArray[np.bool_]
    found = of_label >= point.threshold if point is not None else probabilities.argmax(axis=1) == true
    return found
