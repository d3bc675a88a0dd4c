"""Tries kinds of models and settings by cross-validation on the training part, within a budget.

space:   what may be tried, and which settings come next
trials:  records of what was tried
figures: what a candidate's answers are worth, beside another's
trying:  one candidate, fold after fold
search:  the loop, its budget and its end
"""

from tamis.training.autotune.trials import Autotune

__all__ = ["Autotune"]
