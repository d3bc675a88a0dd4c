"""Scorers that tests of batching watch, hold up and break."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from tamis.inference.classifier import Classifier
from tamis.models.scorer import Scorer, Scores
from tests.support.fakes import ManualClock

BAD = "bad"
"""A text with this in it makes the model fail."""


def score_of(text: str) -> float:
    """Return a number between 0 and 1 that belongs to the text alone."""
    return (sum(map(ord, text)) % 997 + 0.5) / 1000


class WatchedScorer(Scorer):
    """Remembers the batches that it was given."""

    def __init__(self, before: Callable[[Sequence[str]], None] = lambda texts: None):
        self.batches: list[list[str]] = []
        self._before = before

    def score(self, texts: Sequence[str]) -> Scores:
        self.batches.append([*texts])
        self._before(texts)
        if any(BAD in text for text in texts):
            raise ValueError("the model fails on a text")
        return np.array([[1 - score_of(text), score_of(text)] for text in texts]).reshape(-1, 2)

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


class GatedScorer(WatchedScorer):
    """A heavy model that scores while its gate is open."""

    is_heavy = True

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        super().__init__(before=lambda texts: self._wait())

    def _wait(self) -> None:
        assert self.gate.wait(timeout=30)


class HeldScorer(WatchedScorer):
    """A heavy model that scores a batch when it is let, and takes a second of `clock` for it."""

    is_heavy = True

    def __init__(self, clock: ManualClock | None = None) -> None:
        super().__init__(before=lambda texts: self._wait())
        self._clock = clock or ManualClock()
        self.began = threading.Semaphore(0)
        self._may_go_on = threading.Semaphore(0)

    def hold(self) -> None:
        """Forget the batches that began, and those that may still go on."""
        for counted in (self.began, self._may_go_on):
            while counted.acquire(blocking=False):
                pass

    def release(self, batches: int = 1) -> None:
        self._may_go_on.release(batches)

    def _wait(self) -> None:
        self.began.release()
        assert self._may_go_on.acquire(timeout=30)
        self._clock.advance(1.0)


def classifier_with(
    scorer: Scorer, *, labels: Sequence[str] = ("ham", "spam"), identity: str = "f" * 64
) -> Classifier:
    return Classifier(scorer, labels, name="watched", version="1", identity=identity)
