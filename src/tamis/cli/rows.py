"""Which rows of a file may measure a model: never those that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tamis.cli.options import columns
from tamis.data.reader import ReadResult, read_dataset
from tamis.inference.classifier import Classifier
from tamis.records import Dataset
from tamis.training.prepare import PrepareSettings, prepare_file
from tamis.training.prepared_folder import read_prepared


def rows_unseen_by(
    models: Sequence[Classifier], data: str, options: Mapping[str, Any]
) -> tuple[str, Dataset]:
    """Return what to measure on, and in words which part of the data it is.

    Of a prepared folder that is its test part; of the very file that a model was trained on, the
    test part of that model's split. Rows are told apart by their number and text.
    """
    path = Path(data)
    if path.is_dir():
        return "the test part", read_prepared(path).test
    reading = read_dataset(path, columns(options))
    splits = _splits_of(models, reading)
    if not splits:
        return "all rows", reading.dataset
    click.echo("this is the file that the model was trained on: measuring on its test part only", err=True)
    first, *others = (prepare_file(path, split).test for split in splits)
    for other in others:
        known = {*zip(other.rows, other.texts, strict=True)}
        pairs = enumerate(zip(first.rows, first.texts, strict=True))
        first = first.select([i for i, pair in pairs if pair in known])
    return "the test part", first


def _splits_of(models: Sequence[Classifier], reading: ReadResult) -> list[PrepareSettings]:
    """Return the different splits of this file that models were trained with."""
    facts = [model.manifest.data for model in models if model.manifest is not None]
    splits = [PrepareSettings.from_manifest(fact) for fact in facts if fact.sha256 == reading.sha256]
    return list(dict.fromkeys(splits))
