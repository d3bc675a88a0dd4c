"""Hyper-parameter search by cross-validation on the training part, within a budget.

search_space: what may be tried, and which settings come next
trials:       records of what was tried
evaluation:   one candidate, fold after fold, and how it compares with the best
search:       the loop, its budget and its end
"""

from tamis.training.tuning.trials import Autotune

__all__ = ["Autotune"]
