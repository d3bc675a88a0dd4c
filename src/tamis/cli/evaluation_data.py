"""Chooses the rows to measure a model on: none that it is known to have learned.

the model's own training file, by its digest   ─► the test part
other data, the model has digests of its texts ─► rows whose text is not among them
other data, a model of an earlier version      ─► rows whose text is not in its training file, which is
                                                  searched by its digest; not found: a note at each metric
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tamis.artifact import open_artifact
from tamis.artifact.profile import LEARNED_FILE, LearnedTexts
from tamis.cli.options import columns_of, describe_reading, print_reading, read_options
from tamis.cli.terminal import echo
from tamis.data.reader import read_dataset
from tamis.errors import DataError
from tamis.inference.classifier import Classifier
from tamis.models.scorer import Scores
from tamis.training.compare import LEARNED_UNKNOWN, read_held_out
from tamis.training.prepare import PrepareSettings, prepare_file
from tamis.training.prepared_folder import prepared_folder_in, read_prepared
from tamis.types import Dataset, Progress, no_progress

# the search for the training file must stay fast in a folder of many other files
_MAX_FILES_SEARCHED = 100
_MAX_BYTES_SEARCHED = 1 << 30
_MIN_UNSEEN_ROWS = 10
"""With fewer, an interval is too wide to be useful."""

RowKey = tuple[int, str]
"""Number and text of a row, which identify it within a file."""


@dataclass(frozen=True)
class EvaluationData:
    """Rows to measure on.

    part:       a description of the part of the data that they are
    reading:    how the data was read, for `--json`
    dropped:    the number of rows left out because a model has learned their text
    is_unseen:  whether it is known that no model has learned any of the rows
    held_out:   by identity, for each model that was fitted on these rows after it had been measured on them:
                the index of the label that was predicted for each row then
    """

    part: str
    rows: Dataset
    reading: Mapping[str, Any]
    dropped: int = 0
    is_unseen: bool = True
    held_out: Mapping[str, Mapping[RowKey, int]] = field(default_factory=dict)

    def probabilities(self, model: Classifier, progress: Progress = no_progress) -> Scores:
        """Return [rows, labels] probabilities by the model as it was before it learned these rows.

        Of a model that has learned them since, only the predicted labels are known: they get probability 1.
        """
        predicted = self.held_out.get(model.identity)
        if predicted is None:
            return model.probabilities(self.rows.texts, progress=progress)
        probabilities = np.zeros((len(self.rows), len(model.labels)))
        for index, key in enumerate(row_keys(self.rows)):
            probabilities[index, predicted[key]] = 1.0
        return probabilities

    def of_labels(self, labels: Sequence[str]) -> EvaluationData:
        """Return only the rows with one of these labels."""
        kept = [i for i, label in enumerate(self.rows.labels) if label in set(labels)]
        return replace(self, part=f"{self.part} of common labels", rows=self.rows.select(kept))

    @property
    def title(self) -> str:
        """The part, with a note if its rows may have been learned."""
        return self.part if self.is_unseen else f"{self.part} ({LEARNED_UNKNOWN})"

    def described(self) -> dict[str, Any]:
        """Return a description of the rows for `--json`."""
        return {
            "part": self.part,
            "rows_dropped": self.dropped,
            "rows_known_unseen": self.is_unseen,
            "reading": self.reading,
        }


@dataclass(frozen=True)
class _InputData:
    """The data named on the command line.

    sha256:  digest of the file, or of the file that a prepared folder was made of
    split:   how a prepared folder was divided; None for files
    """

    data: EvaluationData
    sha256: str
    split: PrepareSettings | None


def evaluation_data(
    models: Sequence[Classifier],
    data: Sequence[str],
    options: Mapping[str, Any],
    *,
    training_data: Sequence[str] = (),
) -> EvaluationData:
    """Return the rows of `data` to measure `models` on; print how many are left out, and why.

    `training_data` are the files that a model was trained on, if they are not beside the data. Raises
    DataError if no rows or too few remain.
    """
    given = _read_input(models, data, options)
    # models of this very file have a test part in it; the others may have learned any row
    others = [model for model in models if not _has_test_part_in(model, given)]
    chosen = given.data
    # a prepared folder is its test part already
    if given.split is None and len(others) < len(models):
        echo("this is the file that the model was trained on: measuring on its test part only", err=True)
        chosen = replace(chosen, part="the test part", rows=_common_test_rows(models, given, data))
    chosen = replace(chosen, held_out=_held_out_predictions(models, given, data))
    files = _FilesByDigest(data, training_data)
    for model in others:
        chosen = _without_learned_rows(chosen, model, files)
    name, count = ", ".join(data), len(chosen.rows)
    if not count:
        raise DataError("every row was learned by a model; name other data", file=name)
    if chosen.dropped and count < _MIN_UNSEEN_ROWS:
        problem = (
            f"only {count} rows have not been learned by a model, at least {_MIN_UNSEEN_ROWS} are needed"
        )
        raise DataError(f"{problem}; name other data", file=name)
    return chosen


def _read_input(models: Sequence[Classifier], data: Sequence[str], options: Mapping[str, Any]) -> _InputData:
    """Read a prepared folder, or files with the columns of the first model."""
    folder = prepared_folder_in(data)
    if folder is not None:
        prepared = read_prepared(folder)
        part = EvaluationData("the test part", prepared.test, {})
        return _InputData(part, prepared.data_sha256, prepared.settings)
    reading = read_dataset(data, read_options(options, remembered=columns_of(models[0])))
    print_reading(reading)
    rows = EvaluationData("all rows", reading.dataset, describe_reading(reading))
    return _InputData(rows, reading.sha256, None)


def row_keys(rows: Dataset) -> list[RowKey]:
    """Return the key of each row."""
    return [*zip(rows.rows, rows.texts, strict=True)]


def _held_out_predictions(
    models: Sequence[Classifier], given: _InputData, data: Sequence[str]
) -> dict[str, dict[RowKey, int]]:
    """Return `EvaluationData.held_out` for the models that were fitted on all rows of this data."""
    found = {}
    for model in models:
        if model.manifest is None or model.path is None or not _has_test_part_in(model, given):
            continue
        # its folder has the predictions for the test part that were made before the final fit
        if model.manifest.data.has_learned_all_rows:
            split = PrepareSettings.from_manifest(model.manifest.data)
            test = given.data.rows if given.split else _test_part(tuple(data), split)
            predicted = read_held_out(open_artifact(model.path)).tolist()
            found[model.identity] = dict(zip(row_keys(test), predicted, strict=True))
    return found


# preparing takes longest, and the models of a comparison usually have the same file and split
@lru_cache(maxsize=4)
def _test_part(data: tuple[str, ...], split: PrepareSettings) -> Dataset:
    return prepare_file(data, split).test


def _has_test_part_in(model: Classifier, given: _InputData) -> bool:
    """Return whether the model was trained on this very data and, for a prepared folder, with its split."""
    if model.manifest is None or model.manifest.data.sha256 != given.sha256:
        return False
    if given.split is None:
        return True
    own, split = model.manifest.data, given.split
    # another split of the same file has another test part
    return (own.split, own.test_size, own.seed) == (split.split, split.test_size, split.seed)


def _common_test_rows(models: Sequence[Classifier], given: _InputData, data: Sequence[str]) -> Dataset:
    """Return the rows that are in the test part of every model trained on this data."""
    facts = [model.manifest.data for model in models if model.manifest and _has_test_part_in(model, given)]
    splits = dict.fromkeys(PrepareSettings.from_manifest(fact) for fact in facts)
    first, *others = (_test_part(tuple(data), split) for split in splits)
    # other sizes or seeds give other test parts: a row that one model was trained on would favour it
    for other in others:
        known = {*row_keys(other)}
        first = first.select([i for i, key in enumerate(row_keys(first)) if key in known])
    return first


def _without_learned_rows(data: EvaluationData, model: Classifier, files: _FilesByDigest) -> EvaluationData:
    """Leave out rows whose text the model has learned, by its digests or else by its training file."""
    assert model.manifest is not None
    facts = model.manifest.data
    # absent from models of earlier versions
    if model.path is not None and LEARNED_FILE in model.manifest.files:
        recorded = open_artifact(model.path).read(LEARNED_FILE)
        return _without_learned_digests(data, model, LearnedTexts.from_bytes(recorded, key=facts.sha256))
    found = files.find(facts.sha256)
    if found is None:
        reason = "its training data was not found; name the file with --training-data"
        if not facts.sha256:
            reason = "the model does not record its training data"
        echo(f"{model.name}@{model.version}: {LEARNED_UNKNOWN}: {reason}", err=True)
        return replace(data, is_unseen=False)
    prepared = prepare_file(found, PrepareSettings.from_manifest(facts))
    learned_rows = prepared.joined if facts.has_learned_all_rows else prepared.train
    # compared in the form that the model sees, in which different texts may be equal
    learned = {*map(model.form, learned_rows.texts)}
    kept = [i for i, text in enumerate(data.rows.texts) if model.form(text) not in learned]
    names = ", ".join(path.name for path in found)
    return _select(data, kept, f"their texts are among the rows it has learned, from {names}")


def _without_learned_digests(
    data: EvaluationData, model: Classifier, learned: LearnedTexts
) -> EvaluationData:
    """Leave out learned texts; report how many of the others are near duplicates of a learned one."""
    texts = [model.form(text) for text in data.rows.texts]
    known = learned.contains(texts)
    # kept, because the model has not learned them; reported, because they are easy for it
    similar = int((learned.contains_form(texts) & ~known).sum())
    reason = f"{model.name}@{model.version} has learned their texts"
    if similar:
        reason += f"; {similar:,} more differ from a learned text in case, numbers or punctuation only"
    return _select(data, np.flatnonzero(~known).tolist(), reason)


def _select(data: EvaluationData, kept: list[int], reason: str) -> EvaluationData:
    """Return the rows at the indices `kept`; print how many are left out."""
    dropped = len(data.rows) - len(kept)
    echo(f"{dropped:,} row{' was' if dropped == 1 else 's were'} left out: {reason}", err=True)
    return replace(
        data,
        part=f"{data.part} not learned" if dropped else data.part,
        rows=data.rows.select(kept),
        dropped=data.dropped + dropped,
    )


class _FilesByDigest:
    """Finds training files by digest: among the named ones, then in the folders of the data."""

    def __init__(self, data: Sequence[str], named: Sequence[str]):
        self._named = [Path(file) for file in named]
        self._folders = list(dict.fromkeys(Path(path).resolve().parent for path in data))

    def find(self, sha256: str) -> list[Path] | None:
        """Return the file with this digest, or all named files if it is the digest of their digests."""
        digests = [_sha256(path) for path in self._named]
        if len(digests) > 1 and hashlib.sha256("".join(digests).encode()).hexdigest() == sha256:
            return self._named
        for path, digest in zip(self._named, digests, strict=True):
            if digest == sha256:
                return [path]
        return next(([path] for path in self._beside_the_data() if _sha256(path) == sha256), None)

    def _beside_the_data(self) -> Iterator[Path]:
        """Yield files in the folders of the data, up to a number and a total size."""
        bytes_left = _MAX_BYTES_SEARCHED
        files = (path for folder in self._folders for path in sorted(folder.iterdir()) if path.is_file())
        for _, path in zip(range(_MAX_FILES_SEARCHED), files, strict=False):
            # checked before hashing, because a folder may contain disk images
            bytes_left -= path.stat().st_size
            if bytes_left < 0:
                return
            yield path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
