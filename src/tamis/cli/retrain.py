"""`tamis retrain`: feedback → train → compare → promote, in one command."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.evaluate import compare_models, show_comparison
from tamis.cli.feedback import joined_rows
from tamis.cli.options import columns_of, data_argument, read_options, reading_options
from tamis.cli.settings import existing_store, store_option, store_settings
from tamis.cli.terminal import echo, print_json, progress_bar

if TYPE_CHECKING:
    from tamis.training.compare import Comparison
    from tamis.training.retrain import Correction, Merged

# on fewer texts McNemar's test can hardly find a difference, so a comparison would always keep the old model
_MIN_HELD_OUT = 20


@click.command(epilog="Example: tamis retrain models/spam data/sms-spam.csv --promote-if-better")
@click.argument("model", metavar="MODEL[@VERSION]")
@data_argument("DATA…")
@store_option
@click.option("--alias", default="champion", show_default=True, metavar="NAME", help="Alias to move.")
@click.option(
    "--promote-if-better", is_flag=True, help="Move the alias unless the new version is significantly worse."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE.csv",
    help="File for the merged training data.  [default: MODEL-VERSION.csv beside DATA]",
)
@click.option("--dry", is_flag=True, help="Show the training data without training.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@reading_options
def command(  # noqa: PLR0913 - one argument per option
    model: str,
    data: tuple[str, ...],
    *,
    url: str | None,
    alias: str,
    promote_if_better: bool,
    output: str | None,
    dry: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the next version of MODEL on DATA and the feedback in the store, and compare it.

    DATA is what the current version was trained on. If a text has several labels, the latest is used. A
    fifth of the feedback is held out from training, for the comparison.
    """
    from tamis.artifact import list_versions, set_alias
    from tamis.data.reader import read_dataset
    from tamis.inference.classifier import Classifier
    from tamis.training.retrain import is_not_worse, merge

    current = Classifier.load(model)
    if current.path is None or current.manifest is None:
        raise click.ClickException(f"{model}: not a version of a model; name MODEL or MODEL@VERSION")
    folder = current.path.parent
    corrections = asyncio.run(_corrections(url, current.name))
    read = read_dataset(data, read_options(options, remembered=columns_of(current)))
    merged = merge(read.dataset, corrections)
    _show_merged(merged, len(corrections))
    if dry:
        return
    # a name of its own for each version: an overwritten file could not be found by its digest
    number = max(list_versions(folder), default=0) + 1
    path = Path(output) if output else Path(data[0]).with_name(f"{folder.name}-{number}.csv")
    version = _train(current, merged, path, folder)
    # held-out feedback is CSV as Tamis writes it: options for reading DATA do not apply
    unset = dict.fromkeys(options)
    comparison = _comparison((str(current.path), str(version)), merged, unset, training_data=data)
    promoted = promote_if_better and comparison is not None and is_not_worse(comparison)
    if promoted and comparison is not None:
        reason = f"retrain: difference {comparison.difference.value:+.4f}, p = {comparison.p_value:.3g}"
        set_alias(str(version), alias, reason=reason)
    result = {"version": version.name, "data": str(path), "comparison": comparison, "promoted": promoted}
    _show_verdict(result, alias, promote_if_better=promote_if_better)
    if as_json:
        print_json(result)


async def _corrections(url: str | None, name: str) -> list[Correction]:
    """Return the feedback about a model's predictions, oldest first."""
    from tamis.storage import LogQuery
    from tamis.storage.rows import is_text_kept
    from tamis.training.retrain import Correction

    async with existing_store(store_settings(url)) as store:
        rows = [row async for row in joined_rows(store, LogQuery(model_name=name))]
    rows.sort(key=lambda row: str(row["updated_at"]))
    kept = [row for row in rows if is_text_kept(str(row["text"]))]
    if len(kept) < len(rows):
        echo(
            f"{len(rows) - len(kept):,} rows of feedback have no text to learn from: it is not kept "
            "(TAMIS_LOG_TEXTS)",
            err=True,
        )
    return [Correction(str(row["text"]), str(row["label"])) for row in kept]


def _train(current: Any, merged: Merged, path: Path, folder: Path) -> Path:
    from tamis.data.tables import write_dataset
    from tamis.training.fit import TrainSettings
    from tamis.training.train import train

    # kept: the manifest names its digest, and `tamis evaluate` looks for this file
    write_dataset(merged.train, path)
    # the settings of the current version; a search is not repeated
    kind = current.manifest.training.get("model", current.manifest.kind)
    overrides = current.manifest.training.get("overrides", {})
    settings = TrainSettings(model=kind, overrides=overrides)
    with progress_bar(f"training on {path.name}") as progress:
        trained = train(
            str(path),
            folder,
            settings=settings,
            progress=progress,
            notice=progress.notice,
            log=progress.log,
        )
    assert trained.path is not None
    return trained.path


def _comparison(
    models: tuple[str, str], merged: Merged, options: Mapping[str, Any], *, training_data: tuple[str, ...]
) -> Comparison | None:
    """Compare two versions on the held-out feedback, without rows that either has learned.

    Return None with a notice if too few texts are held out.
    """
    from tamis.data.tables import write_dataset

    if len(merged.held_out) < _MIN_HELD_OUT:
        echo(
            f"not compared: {len(merged.held_out)} texts of feedback are held out, at least {_MIN_HELD_OUT} "
            "are needed; collect more feedback",
            err=True,
        )
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "held-out.csv"
        write_dataset(merged.held_out, file)
        comparison, chosen, _ = compare_models(models, (str(file),), options, training_data=training_data)
    show_comparison(comparison, models, "held-out feedback", is_unseen=chosen.is_unseen)
    return comparison


def _show_merged(merged: Merged, n_feedback: int) -> None:
    echo(f"{n_feedback:,} rows of feedback; {len(merged.train):,} rows to learn", err=True)
    echo(f"{len(merged.held_out):,} texts of feedback are held out for the comparison", err=True)
    if merged.contradictions:
        echo(f"{merged.contradictions:,} rows of the training data get another label", err=True)
    if merged.disagreements:
        echo(f"{merged.disagreements:,} texts got several labels; the latest is used", err=True)
    if merged.new_labels:
        echo(f"new labels: {', '.join(merged.new_labels)}", err=True)


def _show_verdict(result: dict[str, Any], alias: str, *, promote_if_better: bool) -> None:
    version = result["version"]
    if result["promoted"]:
        echo(f"version {version} is {alias} now", err=True)
    elif promote_if_better:
        echo(f"version {version} was not promoted", err=True)
    else:
        echo(
            f"version {version} is saved; promote it with `tamis models promote MODEL@{version} {alias}`",
            err=True,
        )
