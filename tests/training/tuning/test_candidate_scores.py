"""What a candidate's answers are worth beside another's."""

from __future__ import annotations

import numpy as np
import pytest

from tamis.training.calibration import choose_calibration
from tamis.training.choice import CandidateScores, difference, is_better, is_clearly_worse
from tamis.training.out_of_fold import HeldOutFold, LearningPart
from tamis.training.trainers.base import EncodedTexts

_TEXTS = 200


def part(labels: list[str]) -> LearningPart:
    return LearningPart(EncodedTexts([""] * _TEXTS), labels, [str(i) for i in range(_TEXTS)], folds=4)


def _rows(fold: int) -> list[int]:
    return [row for row in range(_TEXTS) if row // 2 % 4 == fold]


HALVES = part(["ham", "spam"] * (_TEXTS // 2))


def answers(noise: float, *, of: LearningPart = HALVES, folds: int = 4, seed: int = 1) -> CandidateScores:
    """Return answers that are right up to some noise, fold by fold."""
    rng = np.random.default_rng(seed)
    true = np.array([label == "spam" for label in of.labels])
    margins = (true * 2.0 - 1) + rng.normal(0, noise, _TEXTS)
    logits = np.stack([-margins / 2, margins / 2], axis=1)
    made = CandidateScores(of, seed=42)
    for fold in range(folds):
        rows = _rows(fold)
        made.add(HeldOutFold(np.array(rows), logits[rows], None))
    return made


def test_loss_is_that_of_calibration_that_training_would_choose():
    made = answers(0.7)
    whole = np.zeros((_TEXTS, 2))
    whole[np.arange(_TEXTS)] = made._logits
    chosen = choose_calibration(whole, HALVES.labels, HALVES.groups, HALVES.classes, seed=42)
    assert chosen.kept
    assert made.losses(4).mean() == pytest.approx(chosen.log_loss_after, rel=1e-9)


def test_figures_over_first_folds_do_not_depend_on_later_ones():
    assert np.array_equal(answers(0.7).losses(2), answers(0.7, folds=2).losses(2))


def test_the_spread_is_that_of_the_folds():
    made = answers(0.7)
    losses = made.losses(4)
    means = [losses[_rows(fold)].mean() for fold in range(4)]
    assert made.spread() == pytest.approx(np.std(means, ddof=1))
    assert answers(0.7, folds=1).spread() is None


def test_the_accuracy_is_the_share_of_right_answers():
    assert answers(0.01).accuracy() == 1.0
    assert 0.6 < answers(1.5).accuracy() < 0.9


def test_a_candidate_far_behind_is_hopeless():
    best = answers(0.3)
    assert is_clearly_worse(answers(2.0, folds=1), best)
    assert not is_clearly_worse(best, answers(2.0))


def test_candidate_that_is_as_good_neither_hopeless_nor_better():
    assert not is_clearly_worse(answers(0.7, folds=2), answers(0.7))
    assert not is_better(answers(0.7), answers(0.7))


def test_a_candidate_is_better_by_more_than_error_of_difference():
    worse, better = answers(0.8), answers(0.4)
    assert is_better(better, worse)
    assert not is_better(worse, better)
    slightly = answers(0.7, seed=5)
    behind, error = difference(slightly, answers(0.7), 4)
    assert behind < 0 < behind + error  # lower, and may well be by luck
    assert not is_better(slightly, answers(0.7))


def test_a_candidate_is_compared_on_its_own_folds_only():
    """The best has answered four folds and the candidate one: the same texts of both count."""
    best, candidate = answers(0.7), answers(0.9, folds=1, seed=2)
    behind, error = difference(candidate, best, 1)
    assert behind == pytest.approx((candidate.losses(1) - best.losses(1)).mean())
    assert error > 0


def test_nothing_is_given_up_on_folds_that_lack_a_label():
    rare = part(["ham"] * (_TEXTS - 2) + ["spam"] * 2)  # the last two texts are in the fourth fold
    assert not is_clearly_worse(answers(3.0, of=rare, folds=3), answers(0.1, of=rare))
    assert np.isfinite(answers(0.1, of=rare, folds=3).losses(3)).all()
