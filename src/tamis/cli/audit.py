"""`tamis audit`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.options import data_argument, reading_options
from tamis.cli.terminal import echo
from tamis.errors import DataError, TrainingError

if TYPE_CHECKING:
    from tamis.data.audit import AuditReport, Confidence
    from tamis.data.reader import ReadResult
    from tamis.types import Progress


@click.command(epilog="Example: tamis audit data/sms-spam.csv --fix data/fixed.csv")
@data_argument()
@click.option("--json", "as_json", is_flag=True, help="Print everything that was found as JSON.")
@click.option("--fix", metavar="FIXED.csv", help="Write the repaired file, and say what was changed.")
@reading_options
def command(data: tuple[str, ...], as_json: bool, fix: str | None, **options: Any) -> None:
    """Report what is wrong with labelled texts; the files themselves are not changed.

    Looks for rows hidden by an unescaped quote, labels in several spellings, HTML, duplicates and near
    duplicates, texts with two labels, probably wrong labels, features that give the label away, and
    differences between sources.
    """
    from pathlib import Path

    from tamis.cli.options import read_options
    from tamis.cli.progress import progress_bar
    from tamis.cli.reading import say_reading, title_of
    from tamis.data.reader import read_dataset

    if fix is not None and Path(fix).resolve() in [Path(file).resolve() for file in data]:
        raise click.BadParameter("the file itself is never changed; name another", param_hint="--fix")
    with progress_bar(f"reading {title_of(data)}") as progress:
        reading = read_dataset(data, read_options(options), progress=progress)
    say_reading(reading)
    report, skipped = _audit(reading)
    if as_json:
        _print_json(reading, report, skipped)
    else:
        from tamis.cli.audit_page import show_audit

        show_audit(report, f"Audit of {title_of(data)}", skipped=skipped)
    if fix is not None:
        _fix(reading, fix)


def _audit(reading: ReadResult) -> tuple[AuditReport, str | None]:
    """Return the report, and why labels were not checked with a model if they were not."""
    from tamis.cli.progress import progress_bar
    from tamis.data.audit import audit

    if find_spec("sklearn") is None:
        skipped = "that needs scikit-learn: pip install 'tamis[train]'"
    else:
        try:
            with progress_bar("5-fold cross-validation") as progress:
                return audit(reading, confidence=_confidence(progress)), None
        except (TrainingError, DataError) as impossible:
            skipped = str(impossible)
    with progress_bar("looking for near duplicates") as progress:
        return audit(reading, progress=progress), skipped


def _confidence(progress: Progress) -> Confidence:
    from tamis.training.out_of_fold import out_of_fold

    return lambda texts, labels, groups: out_of_fold(texts, labels, groups, progress=progress)[0]


def _print_json(reading: ReadResult, report: AuditReport, skipped: str | None) -> None:
    import msgspec

    from tamis.cli.figures import print_json
    from tamis.cli.reading import describe_reading
    from tamis.data.findings import findings

    found = {"findings": findings(report), "labels_not_checked": skipped}
    print_json({"reading": describe_reading(reading)} | found | msgspec.to_builtins(report))


def _fix(reading: ReadResult, path: str) -> None:
    from tamis.data.dataset_builder import clean
    from tamis.data.writer import write_dataset

    cleaned = clean(reading.dataset)
    write_dataset(cleaned.dataset, path)
    recovered = sum(field.recovered for field in reading.swallowed)
    changes = [
        _count(recovered, "swallowed row") + " recovered",
        _count(cleaned.duplicates, "exact duplicate") + " dropped",
        _count(cleaned.empty, "empty text") + " dropped",
    ]
    echo(f"{path}: {len(cleaned.dataset):,} rows written; {', '.join(changes)}", err=True)


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
