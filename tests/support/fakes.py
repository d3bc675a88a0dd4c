"""Implementations of the seams that tests steer by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from tamis.clock import Clock
from tamis.inference.classifier import Classifier
from tamis.models.scorer import Scorer, Scores


class ManualClock(Clock):
    """A clock that stands still until a test moves it."""

    def __init__(self, utc_ns: int = 1_795_300_000_000_000_000):
        self._utc_ns = utc_ns
        self._monotonic = 1_000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._someone_sleeps = asyncio.Event()

    def utc_ns(self) -> int:
        return self._utc_ns

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic + seconds, future))
        self._someone_sleeps.set()
        await future

    def advance(self, seconds: float) -> None:
        """Let time pass: both clocks move and sleepers whose time has come wake."""
        self._utc_ns += round(seconds * 1e9)
        self._monotonic += seconds
        for sleeper in [s for s in self._sleepers if s[0] <= self._monotonic]:
            self._sleepers.remove(sleeper)
            if not sleeper[1].done():
                sleeper[1].set_result(None)

    def step_utc(self, seconds: float) -> None:
        """Set the wall clock back or forward, as an operator or NTP does; no time passes."""
        self._utc_ns += round(seconds * 1e9)

    async def sleeper(self) -> None:
        """Return as soon as somebody sleeps on this clock."""
        while not any(not future.done() for _, future in self._sleepers):
            self._someone_sleeps.clear()
            await self._someone_sleeps.wait()


class KeywordScorer(Scorer):
    """Finds spam by the share of a few words: answers that a test can foresee."""

    WORDS = frozenset({"win", "free", "cash", "claim"})

    def score(self, texts: Sequence[str]) -> Scores:
        shares = [self._share(text.lower().split()) for text in texts]
        return np.array([[1 - share, share] for share in shares]).reshape(len(texts), 2)

    def _share(self, words: list[str]) -> float:
        return (1 + sum(word in self.WORDS for word in words)) / (2 + len(words))


def keyword_classifier() -> Classifier:
    """Make a real classifier on the fake scorer."""
    return Classifier(KeywordScorer(), ("ham", "spam"), name="keywords", version="3", identity="f" * 64)
