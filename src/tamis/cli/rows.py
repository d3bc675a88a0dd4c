"""Which rows of a file may measure a model: never those that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from tamis.cli.options import read_options
from tamis.cli.reading import describe_reading, say_reading
from tamis.data.options import Columns
from tamis.data.reader import ReadResult, read_dataset
from tamis.inference.classifier import Classifier
from tamis.records import Dataset
from tamis.training.prepare import PrepareSettings, prepare_file
from tamis.training.prepared_folder import prepared_folder_in, read_prepared


def rows_unseen_by(
    models: Sequence[Classifier], data: Sequence[str], options: Mapping[str, Any]
) -> tuple[str, Dataset, Mapping[str, Any]]:
    """Return which part of the data to measure on in words, its rows, and how the data was read.

    Of a prepared folder that is its test part; of the very files that a model was trained on, the
    test part of that model's split. Rows are told apart by their number and text.
    """
    folder = prepared_folder_in(data)
    if folder is not None:
        return "the test part", read_prepared(folder).test, {}
    reading = read_dataset(data, read_options(options, remembered=_columns_of(models)))
    say_reading(reading)
    splits = _splits_of(models, reading)
    if not splits:
        return "all rows", reading.dataset, describe_reading(reading)
    click.echo("this is the file that the model was trained on: measuring on its test part only", err=True)
    first, *others = (prepare_file(data, split).test for split in splits)
    for other in others:
        known = {*zip(other.rows, other.texts, strict=True)}
        pairs = enumerate(zip(first.rows, first.texts, strict=True))
        first = first.select([i for i, pair in pairs if pair in known])
    return "the test part", first, describe_reading(reading)


def _columns_of(models: Sequence[Classifier]) -> Columns | None:
    """Return the columns that the first model was trained with."""
    manifest = models[0].manifest
    return msgspec.convert(manifest.data.columns, Columns) if manifest is not None else None


def _splits_of(models: Sequence[Classifier], reading: ReadResult) -> list[PrepareSettings]:
    """Return the different splits of these files that models were trained with."""
    facts = [model.manifest.data for model in models if model.manifest is not None]
    splits = [PrepareSettings.from_manifest(fact) for fact in facts if fact.sha256 == reading.sha256]
    return list(dict.fromkeys(splits))
