"""`tamis evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tamis.cli.options import column_options

if TYPE_CHECKING:
    from tamis.artifact import Manifest
    from tamis.records import Dataset


@click.command(epilog="Example: tamis evaluate models/spam prepared/ --json")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("data", metavar="DATA.csv|FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@column_options
def command(model: str, data: str, *, as_json: bool, **options: Any) -> None:
    """Measure MODEL on DATA.csv, or on the test part of a folder made by `tamis prepare`.

    Where DATA.csv is the very file that the model was trained on, only its test part is used.
    """
    from tamis.cli.figures import print_json, show_evaluation
    from tamis.cli.progress import progress_bar
    from tamis.inference.classifier import Classifier
    from tamis.training.evaluate import evaluate

    classifier = Classifier.load(model)
    assert classifier.manifest is not None
    part, dataset = _rows(data, classifier.manifest, options)
    with progress_bar(f"scoring {len(dataset):,} texts") as progress:
        probabilities = classifier.probabilities(dataset.texts, progress=progress)
    evaluation = evaluate(
        probabilities,
        dataset.labels,
        classifier.labels,
        operating_point=classifier.manifest.operating_point,
        sources=dataset.sources,
    )
    if as_json:
        print_json({"model": model, "identity": classifier.identity, "part": part, "evaluation": evaluation})
    else:
        show_evaluation(evaluation, f"{classifier.name}@{classifier.version} on {part} of {data}")


def _rows(data: str, manifest: Manifest, options: dict[str, Any]) -> tuple[str, Dataset]:
    """Return what to measure on, and in words which part of the data it is."""
    from pathlib import Path

    from tamis.cli.options import columns
    from tamis.data.reader import read_dataset
    from tamis.training.prepare import PrepareSettings, prepare_file
    from tamis.training.prepared_folder import read_prepared

    path = Path(data)
    if path.is_dir():
        return "the test part", read_prepared(path).test
    result = read_dataset(path, columns(options))
    if result.sha256 != manifest.data.sha256:
        return "all rows", result.dataset
    click.echo("this is the file that the model was trained on: measuring on its test part only", err=True)
    return "the test part", prepare_file(path, PrepareSettings.from_manifest(manifest.data)).test
