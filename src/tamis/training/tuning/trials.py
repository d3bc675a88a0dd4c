"""Records of a search: its limits, its trials, its state and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tamis.clock import Clock, SystemClock
from tamis.training.tuning.search_space import Candidate

OBJECTIVE = "log loss"

Outcome = Literal["complete", "given up", "too large", "failed"]
StopReason = Literal["trials", "time", "space", "stopped"]

_TRIALS_DESCRIBED = 20  # all of a long search would be most of the manifest


@dataclass(frozen=True)
class Trial:
    """One candidate and its metrics, None if not measured.

    outcome:    `given up`: clearly worse than the best on the same folds; `too large`: above `max_bytes`
    folds:      number of folds it was evaluated on
    log_loss:   of calibrated out-of-fold predictions
    spread:     standard deviation of `log_loss` over the folds
    accuracy:   of the same predictions
    size_bytes: of the files that serve the model
    seconds:    duration
    why:        the error, if it failed
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
        """Return the manifest's record of it, without the duration."""
        # a duration would give every training another identity
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
class SearchState:
    """The state of a search: `running` is None between trials, `ended` until it is over.

    fold: the fold of `running` that is being tried, of `folds`; 0 while its size is measured
    gain: as in `SearchResult`, at the end
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    running: Candidate | None
    fold: int
    folds: int
    seconds_left: float | None
    ended: StopReason | None = None
    gain: tuple[float, float] | None = None


Watch = Callable[[SearchState], None]
"""Called with every new state, and sometimes more than once with the same."""


def no_watch(state: SearchState) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Autotune:
    """The limits of a search; it needs `seconds` or `trials`, and ends at the first that is reached.

    seconds:     the budget; the order of trials does not depend on it, it only cuts
    trials:      end after so many: the same data and seed give the same result
    max_bytes:   refuse models whose files are larger
    other_kinds: try kinds besides that of the settings, if installed and if the budget allows
    """

    seconds: float | None = None
    trials: int | None = None
    max_bytes: int | None = None
    other_kinds: bool = False
    watch: Watch = no_watch
    # injected, so that a test or a busy machine can count other seconds
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True)
class SearchResult:
    """The result of a search: `best` is None if no trial was completed.

    gain: by how much the best has a lower log loss than the first trial, the defaults, and the
        standard error of that; None where the best is the first, or the first was not measured
    """

    trials: tuple[Trial, ...]
    best: Trial | None
    kinds: tuple[str, ...]
    max_bytes: int | None
    gain: tuple[float, float] | None
    ended: StopReason

    def described(self) -> dict[str, Any]:
        """Return the manifest's record of the search; of many trials only the first and the best.

        It has no budget and no times: the same trials give the same bytes.
        """
        return {
            "objective": OBJECTIVE,
            "kinds": list(self.kinds),
            "max_bytes": self.max_bytes,
            "tried": len(self.trials),
            "best": self.best.number if self.best else None,
            "gain": list(self.gain) if self.gain else None,
            "trials": [trial.described() for trial in self._described_trials()],
        }

    def _described_trials(self) -> list[Trial]:
        complete = [trial for trial in self.trials if trial.outcome == "complete"]
        ranked = sorted(complete, key=lambda trial: (trial.log_loss or 0.0, trial.number))
        others = [trial for trial in self.trials if trial.outcome != "complete"]
        # the defaults first, which the gain is measured against, then the best, then those without a loss
        by_worth = dict.fromkeys(trial.number for trial in [*self.trials[:1], *ranked, *others])
        kept = set([*by_worth][:_TRIALS_DESCRIBED])
        return [trial for trial in self.trials if trial.number in kept]
