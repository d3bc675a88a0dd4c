"""The values of each setting that a search tries, and the order of candidates. Independent of data."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tamis.errors import MissingExtraError, TrainingError
from tamis.training.trainers import TRAINERS, hyper_parameters, make_trainer

_ON_OFF = ("true", "false")

VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "linear": {
        "c": ("0.25", "0.5", "1", "2", "4", "8", "16"),
        "class_weight": ("none", "balanced"),
        "ngram_min": ("2", "3"),
        "ngram_max": ("3", "4", "5", "6", "7"),
        "min_documents": ("1", "2", "3", "5", "8"),
        "word_pairs": _ON_OFF,
        "shapes": _ON_OFF,
        "phrases": _ON_OFF,
        "bits": ("12", "14", "16", "18", "20", "22"),
        "feature_weights": ("log-ratio", "none"),
        "ngram_weight": ("0.25", "0.5", "0.75", "1"),
        "shape_weight": ("0.1", "0.2", "0.4"),
        "keep": ("0.1", "0.25", "0.5", "1"),
    },
    "lstm": {
        "words": ("2000", "5000", "10000", "20000"),
        "embedding": ("32", "64", "128"),
        "units": ("32", "64", "128", "196"),
        "spatial_dropout": ("0.2", "0.3", "0.4", "0.5"),
        "dropout": ("0.1", "0.3", "0.5"),
        "recurrent_dropout": ("0", "0.3"),
        "batch": ("16", "32", "64"),
        "learning_rate": ("0.0005", "0.001", "0.002"),
        "class_weight": ("none", "mild", "balanced"),
    },
}
"""The values of each kind's settings that are tried, as on the command line; the default is among them."""

_MIN_SECONDS = {"lstm": 300}
"""Kinds that are tried unasked only in a budget that holds some of their trials, tens of seconds each."""

# mostly one: the defaults are good and most of the space is not, so near neighbours are worth more
_NUMBER_OF_CHANGES = (1, 1, 2, 3)
_MAX_DRAWS = 200  # then the neighbourhood counts as exhausted


@dataclass(frozen=True)
class Candidate:
    """A kind of model with those of its settings that are not its defaults, or were given by the user."""

    kind: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def overrides(self) -> dict[str, str]:
        """The settings by name, as `TrainSettings` takes them."""
        return dict(self.settings)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings) or "defaults"


def other_kinds(known: str, fixed: Mapping[str, str], *, seconds: float | None, seed: int) -> tuple[str, ...]:
    """Return the kinds besides `known` that are installed, have the `fixed` settings and fit the budget.

    Slow kinds need a budget in seconds: trials alone say nothing of how long one may take.
    """
    return tuple(
        kind
        for kind in TRAINERS
        if kind != known
        and (kind not in _MIN_SECONDS or (seconds is not None and seconds >= _MIN_SECONDS[kind]))
        and _can_be_made(kind, fixed, seed)
    )


def _can_be_made(kind: str, overrides: Mapping[str, str], seed: int) -> bool:
    try:
        make_trainer(kind, overrides, seed=seed)
    except (MissingExtraError, TrainingError):
        return False
    return True


class CandidateSampler:
    """Candidates never drawn before, one after the other; their order is fixed by the seed.

    fixed: settings that every candidate has
    """

    def __init__(self, fixed: Mapping[str, str], *, seed: int):
        self._fixed = fixed
        self._seed = seed
        self._random = random.Random(seed)
        self._drawn: set[Candidate] = set()

    def defaults(self, kind: str, changed: Mapping[str, str] | None = None) -> Candidate:
        """Return the kind's defaults with the fixed settings, and with those in `changed`."""
        candidate = Candidate(kind, tuple({**self._fixed, **(changed or {})}.items()))
        self._drawn.add(candidate)
        return candidate

    def neighbour(self, parent: Candidate) -> Candidate | None:
        """Return `parent` with one to three settings changed; None if no new candidate is found."""
        for _ in range(_MAX_DRAWS):
            candidate = self._changed(parent)
            if candidate not in self._drawn:
                self._drawn.add(candidate)
                # values that exclude each other, such as an ngram_min above ngram_max
                if _can_be_made(candidate.kind, candidate.overrides, self._seed):
                    return candidate
        return None

    def _changed(self, parent: Candidate) -> Candidate:
        values = {name: of for name, of in VALUES[parent.kind].items() if name not in self._fixed}
        defaults = _defaults(parent.kind)
        chosen = {**defaults, **parent.overrides}
        number = min(self._random.choice(_NUMBER_OF_CHANGES), len(values))
        for name in self._random.sample(list(values), number):
            chosen[name] = self._random.choice([value for value in values[name] if value != chosen[name]])
        # without defaults, and in the order of the table: equal settings are then equal candidates
        differing = ((name, chosen[name]) for name in values if chosen[name] != defaults[name])
        return Candidate(parent.kind, (*self._fixed.items(), *differing))


@cache
def _defaults(kind: str) -> Mapping[str, str]:
    known = hyper_parameters(kind)
    return {name: _as_text(known[name]) for name in VALUES[kind]}


def _as_text(value: object) -> str:
    """Return a default in the form of `VALUES`."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
