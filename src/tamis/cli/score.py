"""`tamis score`."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.cli.options import columns_of, missing_extra, read_options, text_file_options
from tamis.cli.parameter_types import size_option
from tamis.cli.terminal import ProgressBar, echo, progress_bar
from tamis.errors import DataError

if TYPE_CHECKING:
    from tamis.batch.assemble import OutputTarget
    from tamis.batch.inputs import InputFile
    from tamis.batch.pipeline import Engine, ScoreProgress, ScoreSettings, ScoreSummary
    from tamis.inference.classifier import Classifier

_STDIN = "-"
_MB = 1 << 20


@click.command(epilog="Example: tamis score models/spam inbox/*.csv.gz -o scored.parquet --keep id")
@click.argument("model", metavar="MODEL[@VERSION]")
@click.argument("inputs", nargs=-1, required=True, metavar="IN…")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="File (.csv, .tsv, .jsonl, also .gz and .zst; .parquet, .arrow), folder of parts (FOLDER/), or - "
    "for standard output.",
)
@click.option(
    "--format", "format_", metavar="NAME", help="Format of a folder or -, such as csv, jsonl or parquet."
)
@click.option(
    "--keep",
    default="all",
    show_default=True,
    metavar="NAMES",
    help="Columns to copy to OUT: all, none, or names separated by commas.",
)
@click.option("--scores", is_flag=True, help="Add a column per label.")
@click.option("--explain", is_flag=True, help="Add the tokens that contribute most, as JSON (slow).")
@click.option(
    "--max-characters",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Reject longer texts.",
)
@click.option("--rejected", metavar="FILE", help="File for rejected rows.  [default: OUT.rejected.csv]")
@click.option(
    "--max-rejected", type=click.IntRange(0), metavar="N", help="Stop after more than N rejected rows."
)
@click.option("--restart", is_flag=True, help="Discard an unfinished run, and replace OUT.")
@click.option(
    "--engine",
    default="local",
    show_default=True,
    type=click.Choice(["local", "ray"]),
    help="Score on this machine or on a Ray cluster.",
)
@click.option(
    "--ray-address", metavar="ADDRESS", help="Address of a running Ray cluster.  [default: start one here]"
)
@click.option(
    "--workers",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Number of processes.  [default: one per core]",
)
@click.option(
    "--max-memory",
    default="1GB",
    show_default=True,
    callback=size_option,
    metavar="SIZE",
    help="Maximum memory of all local processes; may reduce --workers.",
)
@click.option(
    "--part-size",
    default="8MB",
    show_default=True,
    callback=size_option,
    metavar="SIZE",
    help="Size of a part of the input, the unit of work and of resuming.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
@text_file_options
def command(model: str, inputs: tuple[str, ...], output: str, *, as_json: bool, **options: Any) -> None:
    """Classify the rows of IN with MODEL and write them with their predictions to OUT.

    IN is a file (CSV, TSV, JSON lines, Parquet, Arrow), a folder or glob of files, s3://BUCKET/KEY, or - for
    standard input. To resume a stopped run, run the same command again: the output is the same, byte for
    byte. Rows that cannot be classified are written to OUT.rejected.csv with the reason.
    """
    try:
        from tamis.batch.pipeline import ScoreRun, make_job, open_inputs
    except ModuleNotFoundError as missing:
        raise missing_extra("tamis score", "batch", missing) from None
    from tamis.inference.classifier import Classifier

    with contextlib.ExitStack() as stack:
        classifier = Classifier.load(model)
        target = _target(output, options, stack)
        settings = _settings(options, classifier)
        files = _input_files(inputs, target, stack)
        engine = _engine(options, settings)
        with _named_as_given(files):
            sources = open_inputs(list(files), settings)
        for source in sources:
            source.name, source.remote = files[source.path]
            if source.assumed:
                echo(f"{source.name}: assumed {'; '.join(source.assumed)}", err=True)
        run = ScoreRun(make_job(classifier, sources, target, settings), sources, target, settings)
        watch = _ScoreMeter(stack.enter_context(progress_bar("Scoring")))
        try:
            summary = run.run(
                engine, restart=options["restart"], max_rejected=options["max_rejected"], observe=watch
            )
        except KeyboardInterrupt:
            problem = "stopped; run the same command again to resume"
            raise click.ClickException(problem) from None
    _print_summary(summary, watch, target, as_json)


def _settings(options: Mapping[str, Any], classifier: Classifier) -> ScoreSettings:
    from tamis.batch.pipeline import ScoreSettings

    keep = options["keep"]
    kept = (
        None if keep == "all" else () if keep == "none" else tuple(name.strip() for name in keep.split(","))
    )
    return ScoreSettings(
        reading=read_options(options, remembered=columns_of(classifier)),
        keep=kept,
        scores=options["scores"],
        explain=options["explain"],
        max_characters=options["max_characters"],
        block_bytes=options["part_size"],
    )


def _target(output: str, options: Mapping[str, Any], stack: contextlib.ExitStack) -> OutputTarget:
    from tamis.batch.assemble import OutputTarget

    if output != "-":
        return OutputTarget.of(output, format=options["format_"], rejected=options["rejected"])
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tamis-score-")))
    listed = options["rejected"]
    # written as parts to disk, then copied: only complete parts may reach a pipe
    found = OutputTarget.of(str(folder / "output"), format=options["format_"] or "csv", rejected=listed)
    return replace(found, stream=sys.stdout.buffer, rejected=found.rejected if listed else None, record=None)


def _input_files(
    inputs: tuple[str, ...], target: OutputTarget, stack: contextlib.ExitStack
) -> dict[Path, InputFile]:
    """Return each input by its path; standard input and objects are copied to files."""
    from tamis.batch.inputs import InputFile, copy_objects, find_inputs
    from tamis.batch.object_store import is_url

    named = [name for name in inputs if name != _STDIN and not is_url(name)]
    paths = find_inputs(named, excluded=target.own_paths) if named else []
    found = {path: InputFile(str(path)) for path in paths}
    # copied, because a file is read twice: for its encoding and for its rows
    urls = [name for name in inputs if is_url(name)]
    if urls:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tamis-objects-"))
        found |= copy_objects(urls, Path(folder), is_own=target.owns)
    if _STDIN in inputs:
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="tamis-stdin-"))  # noqa: SIM115 - closed by the stack
        shutil.copyfileobj(sys.stdin.buffer, file, _MB)
        file.flush()
        found[Path(file.name)] = InputFile("standard input")
    return found


@contextlib.contextmanager
def _named_as_given(files: Mapping[Path, InputFile]) -> Iterator[None]:
    """Name a copy in errors as the user named its original."""
    try:
        yield
    # errors name the file; a copy has a name that the user does not know
    except DataError as wrong:
        known = files.get(Path(str(wrong.file)))
        name = known.name if known else wrong.file
        raise DataError(wrong.problem, file=name, row=wrong.row, column=wrong.column) from None


def _engine(options: Mapping[str, Any], settings: ScoreSettings) -> Engine:
    from tamis.batch.local import available_cores, run_locally, without_pandas, workers_within

    if options["engine"] == "ray":
        from tamis.batch.ray import run_on_ray

        return partial(run_on_ray, address=options["ray_address"], workers=options["workers"])
    if options["ray_address"]:
        raise click.UsageError("--ray-address needs --engine ray")
    wanted = options["workers"] or available_cores()
    # fewer workers rather than swapping
    workers = workers_within(options["max_memory"], settings.block_bytes, wanted)
    if not workers:
        raise click.UsageError("--max-memory is too little for one worker; raise it or lower --part-size")
    # importing pandas takes pyarrow half a second
    without_pandas()
    return partial(run_locally, workers=workers)


class _ScoreMeter:
    """Shows how far a run is, and its speed."""

    def __init__(self, bar: ProgressBar):
        self._bar = bar
        self._began = time.monotonic()
        self.n_rows = 0

    @property
    def rows_per_second(self) -> float:
        # a run of no rows may take no measurable time
        return self.n_rows / max(1e-3, self.seconds)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def __call__(self, progress: ScoreProgress) -> None:
        self.n_rows = progress.n_rows
        self._bar(progress.bytes_done, progress.bytes_total)
        rejected = f", {progress.n_rejected:,} rejected" if progress.n_rejected else ""
        self._bar.notice(f"{progress.n_rows:,} rows{rejected}, {self.rows_per_second:,.0f} rows/s")


def _print_summary(summary: ScoreSummary, watch: _ScoreMeter, target: OutputTarget, as_json: bool) -> None:
    seconds = watch.seconds
    if as_json:
        echo(json.dumps({**asdict(summary), "seconds": round(seconds, 2)}, ensure_ascii=False))
    resumed = f" ({summary.n_resumed:,} by an earlier run)" if summary.n_resumed else ""
    where = "" if target.stream is not None else f" to {target.name}"
    rate = f"{watch.rows_per_second:,.0f} rows/s"
    echo(f"{summary.n_rows:,} rows{resumed} in {seconds:.1f} s, {rate}, written{where}", err=True)
    if summary.n_rejected:
        listed = f"; see {target.rejected.name}" if target.rejected else ""
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in list(summary.reasons.items())[:3])
        echo(f"{summary.n_rejected:,} rows rejected ({reasons}){listed}", err=True)
