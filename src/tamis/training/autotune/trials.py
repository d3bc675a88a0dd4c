"""What a search has tried so far and what it has found: frozen records. Nothing in here is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tamis.clock import Clock, SystemClock
from tamis.training.autotune.space import Candidate

OBJECTIVE = "log loss"

Outcome = Literal["complete", "given up", "too large", "failed"]
Ended = Literal["trials", "time", "space", "stopped"]

_TRIALS_DESCRIBED = 20


@dataclass(frozen=True)
class Trial:
    """One candidate and how it did; a figure is None where it was not measured.

    outcome:    `given up` because it lay behind the best on the folds so far; `too large`: refused
    folds:      on how many folds it was tried
    log_loss:   of calibrated answers about texts that were not learned from
    spread:     standard deviation of `log_loss` over the folds
    accuracy:   of the same answers
    size_bytes: of the files that serve the model
    seconds:    how long it took
    why:        it failed
    """

    number: int
    candidate: Candidate
    outcome: Outcome
    folds: int = 0
    log_loss: float | None = None
    spread: float | None = None
    accuracy: float | None = None
    size_bytes: int | None = None
    seconds: float = 0.0
    why: str = ""

    def described(self) -> dict[str, Any]:
        """Return what a manifest says of it: all but the time it took."""
        return {
            "number": self.number,
            "kind": self.candidate.kind,
            "settings": self.candidate.overrides,
            "outcome": self.outcome,
            "folds": self.folds,
            "log_loss": self.log_loss,
            "spread": self.spread,
            "accuracy": self.accuracy,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True)
class State:
    """How far a search is: `running` is None between trials, `ended` until it is over.

    fold: the fold of `running` that is being tried, of `folds`; 0 while its size is measured
    gain: as in `Found`, at the end
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    running: Candidate | None
    fold: int
    folds: int
    seconds_left: float | None
    ended: Ended | None = None
    gain: tuple[float, float] | None = None


Watch = Callable[[State], None]
"""Called with every new state, and some times within one."""


def unwatched(state: State) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Autotune:
    """How long to search and what for; it needs `seconds` or `trials`, and ends with the first to come.

    seconds:     the budget; the order of trials does not depend on it, it only cuts
    trials:      end after so many: the same data and seed give the same result
    max_bytes:   refuse models whose files are larger
    other_kinds: try kinds besides that of the settings, where they are installed and the budget allows
    """

    seconds: float | None = None
    trials: int | None = None
    max_bytes: int | None = None
    other_kinds: bool = False
    watch: Watch = unwatched
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True)
class Found:
    """What a search has found: `best` is None where no trial was complete in time.

    gain: by how much the best has a lower log loss than the first trial, the defaults, and the
        standard error of that; None where the best is the first, or the first was not measured
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    kinds: tuple[str, ...]
    max_bytes: int | None
    gain: tuple[float, float] | None
    ended: Ended

    def described(self) -> dict[str, Any]:
        """Return what a manifest says of the search; of many trials only the first and the best.

        Neither budget nor times are in it: the same trials give the same bytes.
        """
        return {
            "objective": OBJECTIVE,
            "kinds": list(self.kinds),
            "max_bytes": self.max_bytes,
            "tried": len(self.trials),
            "best": self.best.number if self.best else None,
            "gain": list(self.gain) if self.gain else None,
            "trials": [trial.described() for trial in self._told()],
        }

    def _told(self) -> list[Trial]:
        complete = [trial for trial in self.trials if trial.outcome == "complete"]
        ranked = sorted(complete, key=lambda trial: (trial.log_loss or 0.0, trial.number))
        others = [trial for trial in self.trials if trial.outcome != "complete"]
        by_worth = dict.fromkeys(trial.number for trial in [*self.trials[:1], *ranked, *others])
        kept = set([*by_worth][:_TRIALS_DESCRIBED])
        return [trial for trial in self.trials if trial.number in kept]
