"""Hyper-parameter search by cross-validation on the training part, within a budget.

search:       the loop, its budget and its end
search_space: the values of each setting, and the next candidate
evaluation:   one candidate, fold after fold, compared with the best
trials:       records of the trials

    defaults of each kind, the alternative, then neighbours of the best
      │ candidate
      ▼
    fold 1 ──► clearly worse than the best? ──yes──► given up
      │ no, for each further fold
      ▼
    complete ──► better by two standard errors? ──yes──► the new best

Nothing here depends on the clock, except when the search ends: a trial that is incomplete then is discarded,
so the same number of trials gives the same result on any machine.
"""

from tamis.training.tuning.trials import Autotune

__all__ = ["Autotune"]
