"""Fits a model on the training part, with a calibration and an operating point from out-of-fold predictions:

    quick kinds   every fold held out once ──► alternative settings, if clearly better ──► calibration,
                  operating point ──► fit of the whole part
    slow kinds    one fold held out ──► calibration, operating point ──► fit of the whole part

`refit` then fits the same settings on all rows. Uses models through `Trainer` only; never sees the test
part before `refit`.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tamis.artifact import OperatingPoint
from tamis.errors import TrainingError
from tamis.normalization import canonical
from tamis.training.calibration import (
    ChosenCalibration,
    choose_calibration,
    choose_operating_point,
    default_positive,
)
from tamis.training.choice import Choice, choose_alternative
from tamis.training.out_of_fold import LearningPart, default_folds, held_out_logits, out_of_fold_logits
from tamis.training.trainers import make_trainer
from tamis.training.trainers.base import EncodedTexts, Logits, Trainer
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    model:                    a name of `tamis.training.trainers.TRAINERS`
    overrides:                hyper-parameters by name, as text
    positive:                 the label whose false positives are capped; by default the rarer one
    max_false_positive_rate:  the cap, for two classes
    folds:                    of the cross-validation that calibrates, of which slow models hold out one; by
                              default 5, or 3 from 1,000 rows on; fewer if there are fewer groups
    refit:                    fit the saved model on all rows, after it was measured on the test part
    data_licence:             of the data, in the user's words, for the model card
    """

    model: str = "linear"
    overrides: Mapping[str, str] = field(default_factory=dict)
    positive: str | None = None
    max_false_positive_rate: float = 0.005
    folds: int | None = None
    seed: int = 42
    refit: bool = True
    data_licence: str | None = None


@dataclass(frozen=True)
class FittedModel:
    """A trained model with what turns its logits into probabilities and decisions.

    settings: those that it was fitted with: as given, and what was chosen
    choice:   the alternative to the given settings that was chosen on out-of-fold predictions, if any
    """

    model: Trainer
    calibrated: ChosenCalibration
    operating_point: OperatingPoint | None
    settings: TrainSettings
    choice: Choice | None = None

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return [texts, classes] probabilities of texts in any form."""
        # as the served model will: the calibration is part of the exported weights
        return self.calibrated.calibration(self.model.logits([canonical(text) for text in texts]))

    def notices(self) -> Iterator[str]:
        """Yield lines about what out-of-fold predictions decided otherwise than by default."""
        if self.choice is not None:
            yield str(self.choice)
        if not self.calibrated.kept:
            yield self.calibrated.why_not_kept()


Encode = Callable[[TrainSettings], EncodedTexts]
"""Returns the canonical texts of a part as a model of these settings needs them."""


def fit(  # noqa: PLR0913 - data, settings, what may be reused and chosen, progress, notices, checkpoints
    data: Dataset,
    settings: TrainSettings,
    *,
    encode: Encode | None = None,
    may_choose: bool = True,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> FittedModel:
    """Calibrate on predictions for texts that the model was not trained on; then fit the whole part.

    A quick model may be fitted with the trainer's alternative to settings that were not given, if that is
    clearly better on the same predictions and `may_choose` is on. A slow model writes its progress to
    `checkpoints`, and resumes from there if data and settings are the same. `encode` encodes the canonical
    texts of `data`; by default `Trainer.encode` does.
    """
    encode = encode or encode_once([canonical(text) for text in data.texts])
    part = learning_part(data, settings, encoded=encode(settings))
    if is_slow(settings):
        return _fit_slowly(part, settings, progress, notice, checkpoints)
    return _fit_quickly(part, settings, encode if may_choose else None, progress, notice)


def refit(
    fitted: FittedModel,
    texts: EncodedTexts,
    labels: Sequence[str],
    *,
    progress: Progress = no_progress,
    notice: Notice = no_notice,
    checkpoints: Path | None = None,
) -> FittedModel:
    """Fit the same settings on all rows; calibration and operating point stay."""
    model = untrained(fitted.settings)
    # the threshold was chosen for probabilities of such a model on texts that it has not learned: it stays
    model.fit(texts, labels, progress=progress, notice=notice, checkpoints=checkpoints)
    return replace(fitted, model=model)


def encode_once(texts: Sequence[str]) -> Encode:
    """Return a function that encodes canonical `texts` once for each settings."""
    # a list and no dictionary: settings hold mappings, so they have no hash; there are two at most
    done: list[tuple[TrainSettings, EncodedTexts]] = []

    def encode(settings: TrainSettings) -> EncodedTexts:
        for known, encoded in done:
            if known == settings:
                return encoded
        done.append((settings, untrained(settings).encode(texts)))
        return done[-1][1]

    return encode


def learning_part(
    data: Dataset, settings: TrainSettings, *, encoded: EncodedTexts | None = None
) -> LearningPart:
    """Return the training part for these settings; raise TrainingError if they cannot be used with it."""
    _check_classes(data.classes, settings)
    if encoded is None:
        encoded = untrained(settings).encode([canonical(text) for text in data.texts])
    # without groups each row is its own; a group is never split, so there cannot be more folds than groups
    groups = data.groups if data.groups is not None else [str(row) for row in range(len(data))]
    folds = settings.folds if settings.folds is not None else default_folds(len(data))
    return LearningPart(encoded, list(data.labels), groups, max(2, min(folds, len(set(groups)))))


def _fit_quickly(
    part: LearningPart, settings: TrainSettings, encode: Encode | None, progress: Progress, notice: Notice
) -> FittedModel:
    """Calibrate on out-of-fold predictions for all rows, then fit the model; `encode` allows a choice."""
    # also for settings that an alternative replaces: they are what it is compared with, on the same folds
    logits = out_of_fold_logits(
        lambda: untrained(settings),
        part,
        seed=settings.seed,
        progress=lambda done, folds: progress(done, folds + 1),  # the last step is the fit on all rows
    )
    choice = _choice(part, logits, settings, encode) if encode else None
    if choice is not None:  # its out-of-fold predictions exist: calibration and threshold need no further fit
        part, logits = choice.part, choice.logits
        settings = replace(settings, overrides={**settings.overrides, **choice.overrides})
    chosen = choose_calibration(logits, part.labels, part.groups, part.classes, seed=settings.seed)
    point = _operating_point(chosen, logits, part.labels, settings, "out-of-fold answers")
    model = untrained(settings).fit(part.texts, part.labels, notice=notice)
    progress(part.folds + 1, part.folds + 1)
    return FittedModel(model, chosen, point, settings, choice)


def alternative_overrides(
    settings: TrainSettings, texts: Sequence[str], labels: Sequence[str]
) -> Mapping[str, str]:
    """Return the alternative for such data; empty if there is none, or it would change a given setting.

    A search tries the same one, among its candidates.
    """
    overrides = untrained(settings).alternative(texts, labels)
    return {} if overrides.keys() & settings.overrides.keys() else overrides


def _choice(part: LearningPart, logits: Logits, settings: TrainSettings, encode: Encode) -> Choice | None:
    """Return the trainer's alternative if it is clearly better."""
    overrides = alternative_overrides(settings, part.texts, part.labels)
    if not overrides:
        return None
    tried = replace(settings, overrides={**settings.overrides, **overrides})
    return choose_alternative(
        lambda: untrained(tried),
        replace(part, texts=encode(tried)),
        logits=logits,
        overrides=overrides,
        seed=settings.seed,
    )


def _fit_slowly(
    part: LearningPart, settings: TrainSettings, progress: Progress, notice: Notice, checkpoints: Path | None
) -> FittedModel:
    """Calibrate on one held-out fold; a fit that the user stops there is the final model."""
    held = held_out_logits(
        lambda: untrained(settings),
        part,
        seed=settings.seed,
        progress=lambda done, total: progress(done, 2 * total),  # the other half is the fit of the whole part
        notice=lambda text: notice(f"to calibrate, {text}"),
        checkpoints=checkpoints and checkpoints / "held-out",
    )
    chosen, point = ChosenCalibration.none(len(part.classes)), None
    if held is not None:  # there are at least two groups of some label
        rows = held.rows.tolist()
        labels, groups = [part.labels[row] for row in rows], [part.groups[row] for row in rows]
        chosen = choose_calibration(held.logits, labels, groups, part.classes, seed=settings.seed)
        point = _operating_point(
            chosen, held.logits, labels, settings, "answers about one held-out fold", all_labels=part.labels
        )
    # stopped by the user: a second fit would ignore that, so the model of the other folds is kept
    model = (held and held.interrupted) or untrained(settings).fit(
        part.texts,
        part.labels,
        progress=lambda done, total: progress(total + done, 2 * total),
        notice=notice,
        checkpoints=checkpoints and checkpoints / "measured",
    )
    return FittedModel(model, chosen, point, settings)


def is_slow(settings: TrainSettings) -> bool:
    """Return whether such a model takes too long to be trained once per fold by default."""
    return untrained(settings).is_slow


def untrained(settings: TrainSettings) -> Trainer:
    """Return an untrained model with these settings."""
    return make_trainer(settings.model, settings.overrides, seed=settings.seed)


def library_versions(model: Trainer) -> dict[str, str]:
    """Return the versions of what the model was trained with; some of it is needed without Rust only."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in model.libraries:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _check_classes(classes: tuple[str, ...], settings: TrainSettings) -> None:
    if len(classes) < 2:
        raise TrainingError(f"training needs at least two classes; the training part has {list(classes)}")
    if settings.positive is not None and settings.positive not in classes:
        raise TrainingError(f"--positive {settings.positive}: the labels are {', '.join(classes)}")


def _operating_point(
    chosen: ChosenCalibration,
    logits: Logits,
    labels: Sequence[str],
    settings: TrainSettings,
    chosen_on: str,
    *,
    all_labels: Sequence[str] | None = None,
) -> OperatingPoint | None:
    """Return the point for two classes; None for more, or if no text of one of them was held out."""
    # of the whole part: the held-out fold of a slow model may lack a label
    classes = sorted(set(all_labels or labels))
    # rows of NaN were in every training part: no model that has not learned them predicted them
    measured = np.flatnonzero(~np.isnan(logits[:, 0])).tolist()
    held_labels = [labels[row] for row in measured]
    if len(classes) != 2 or len(Counter(held_labels)) < 2:
        return None
    return choose_operating_point(
        chosen.calibration(logits[measured]),
        held_labels,
        positive=settings.positive or default_positive(all_labels or labels),
        max_false_positive_rate=settings.max_false_positive_rate,
        chosen_on=f"{chosen_on} of the training part",  # part of the manifest, so of the model's identity
    )
