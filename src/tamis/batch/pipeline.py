"""One run of `tamis score`: plan, resume, hand blocks to an engine, assemble.

    open inputs -> manifest -> [blocks not finished yet -> engine -> parts -> journal] -> assemble -> rename

Parts are assembled while others are still being made. The output appears at the end, by a rename.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow

from tamis import __version__
from tamis.batch.assemble import Assembler, OutputTarget
from tamis.batch.blocks import InputBlock
from tamis.batch.inputs import open_source
from tamis.batch.manifest import RUN_FILE, PartsFolder, RunManifest, describe
from tamis.batch.scoring import FinishedPart, ScoreJob
from tamis.batch.sources import FileSource
from tamis.data.tables import ReadOptions
from tamis.errors import DataError
from tamis.inference.classifier import Classifier
from tamis.inference.tables import free_name, prediction_names
from tamis.native import is_compiled

Engine = Callable[[ScoreJob, Iterator[InputBlock]], Generator[FinishedPart, None, None]]
"""Makes the parts of blocks and yields them in any order; blocks are consumed as the engine has room."""


@dataclass(frozen=True)
class ScoreSettings:
    """What to read and what to write; all of it changes the output, so a resumed run must have the same.

    keep:        the columns carried through, all of them for None
    block_bytes: of input in a part, about
    """

    reading: ReadOptions = ReadOptions()
    keep: tuple[str, ...] | None = None
    scores: bool = False
    explain: bool = False
    max_characters: int = 1_000_000
    block_bytes: int = 8 << 20


@dataclass(frozen=True)
class ScoreProgress:
    """Progress of a run: rows scored by it, bytes of all inputs consumed."""

    n_rows: int
    n_rejected: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True)
class ScoreSummary:
    """What a run did; `n_resumed` rows had been scored by an earlier run."""

    n_rows: int
    n_rejected: int
    n_parts: int
    n_resumed: int
    reasons: Mapping[str, int] = field(default_factory=dict)


Observer = Callable[[ScoreProgress], None]


class TooManyRejectedError(DataError):
    """More rows were rejected than the run allows."""


def open_inputs(paths: Sequence[Path], settings: ScoreSettings) -> list[FileSource]:
    """Inspect all inputs; raise DataError unless they have the same columns."""
    sources: list[FileSource] = []
    for path in paths:
        source = open_source(path, settings.reading, settings.keep)
        first = sources[0] if sources else source
        if source.schema != first.schema:
            _fail_schema(source, first)
        sources.append(source)
    return sources


def _fail_schema(source: FileSource, first: FileSource) -> None:
    mine, theirs = ({f.name: f.type for f in one.schema} for one in (source, first))
    name = next((name for name in {**theirs, **mine} if mine.get(name) != theirs.get(name)), None)
    what = "the order of columns" if name is None else f"column {name!r}"
    remedy = "choose columns that all files have with --keep, or score the files one by one"
    raise DataError(f"differs from {first.path} in {what}; {remedy}", file=source.path)


def make_job(
    classifier: Classifier, sources: Sequence[FileSource], target: OutputTarget, settings: ScoreSettings
) -> ScoreJob:
    """Return what the parts depend on; prediction columns keep out of the way of the input's."""
    carried = sources[0].schema
    names = prediction_names(classifier.labels, scores=settings.scores, explain=settings.explain)
    outputs = {name: free_name(name, carried.names) for name in names}
    floats = {name for name in names if name.startswith("score")}
    predicted = [(outputs[n], pyarrow.float64() if n in floats else pyarrow.string()) for n in names]
    metadata = {
        "tamis.model": classifier.name,
        "tamis.model_version": classifier.version,
        "tamis.model_digest": classifier.identity,
    }
    schema = pyarrow.schema([*carried, *(pyarrow.field(*one) for one in predicted)], metadata)
    for column in schema:
        if not target.sink.holds(column.type):
            problem = f"{column.type} does not fit CSV; write .jsonl or .parquet, or leave it out with --keep"
            raise DataError(problem, file=target.name, column=column.name)
    return ScoreJob(
        classifier=classifier,
        parsers=tuple(source.parser for source in sources),
        sink=target.sink,
        schema=schema,
        folder=target.parts.resolve(),
        outputs=outputs,
        max_characters=settings.max_characters,
        is_shared=target.is_shared,
    )


class ScoreRun:
    """A run over inputs that have been opened."""

    def __init__(
        self, job: ScoreJob, sources: Sequence[FileSource], target: OutputTarget, settings: ScoreSettings
    ):
        self._job, self._sources, self._target, self._settings = job, sources, target, settings
        self._parts = PartsFolder(target.parts)
        self._n_parts = 0

    def manifest(self) -> RunManifest:
        """Return what the output depends on."""
        classifier = self._job.classifier
        settings = {
            "text_columns": [source.text_column for source in self._sources],
            "columns": self._job.schema.names,
            "output": [type(self._job.sink).__name__, self._job.sink.part_suffix],
            # objects of the same name share a folder of parts in the working directory
            "target": None if self._target.is_shared else self._target.name,
            **{name: getattr(self._settings, name) for name in self._settings.__dataclass_fields__},
        }
        return RunManifest(
            inputs=[
                {"name": source.name, "sha256": source.sha256, "size_bytes": source.size_bytes}
                for source in self._sources
            ],
            model={"name": classifier.name, "version": classifier.version, "digest": classifier.identity},
            settings=describe(settings),
            libraries={
                "tamis": __version__,
                "pyarrow": pyarrow.__version__,
                "numpy": np.__version__,
                "native": str(is_compiled()),
            },
        )

    def run(
        self,
        engine: Engine,
        *,
        restart: bool = False,
        max_rejected: int | None = None,
        observe: Observer = lambda progress: None,
    ) -> ScoreSummary:
        """Score all rows that no earlier run has scored, and write the output."""
        self._target.check(restart=restart, is_resumed=self._parts.exists())
        self._parts.open(self.manifest(), restart=restart)
        # after the lock: another run may be writing there
        if restart and self._target.remote is not None:
            self._target.remote.clear()
        try:
            # inside, not in a `finally`: after a full disk, closing the journal fails again
            with closing(self._parts):
                return self._score_and_assemble(engine, max_rejected, observe)
        except OSError as failed:
            problem = f"{failed.strerror or failed}; run the same command again to resume"
            raise DataError(problem, file=failed.filename or self._target.parts) from failed

    def _score_and_assemble(
        self, engine: Engine, max_rejected: int | None, observe: Observer
    ) -> ScoreSummary:
        resumed = sum(part.n_rows for part in self._parts.finished.values())
        with Assembler(self._job, self._target, [source.name for source in self._sources]) as assembler:
            self._score(engine, assembler, max_rejected, observe)
            for source in self._sources:
                # again at the end: parts of two versions of a file must not be joined
                source.check_unchanged()
            # the record first: once the output exists, the run is complete
            if self._target.record is not None:
                self._target.record.publish(self._parts.copy_manifest())
            assembler.finish(self._n_parts)
        parts = self._parts.finished.values()
        summary = ScoreSummary(
            n_rows=sum(part.n_rows for part in parts),
            n_rejected=self._parts.n_rejected,
            n_parts=self._n_parts,
            n_resumed=resumed,
            reasons=dict(assembler.reasons.most_common()),
        )
        self._complete()
        return summary

    def _complete(self) -> None:
        """Keep the parts of a folder, with what they depend on; delete those that were assembled."""
        if self._target.remote is not None:
            self._target.remote.add(self._parts.manifest_path, RUN_FILE)
        if self._target.is_folder and self._target.remote is None:
            self._parts.complete()
        else:
            self._parts.remove()

    def _score(
        self, engine: Engine, assembler: Assembler, max_rejected: int | None, observe: Observer
    ) -> None:
        n_rows, sizes = 0, [source.size_bytes for source in self._sources]
        assembler.advance(self._parts.finished)
        # also before the first part: a resumed run may have too many already
        self._check_rejected(assembler, max_rejected)
        # stops the workers if this run fails
        with closing(engine(self._job, self._pending())) as parts:
            for part in parts:
                self._parts.add(part)
                n_rows += part.n_rows
                assembler.advance(self._parts.finished)
                done = sum(sizes[: part.source]) + part.position
                observe(ScoreProgress(n_rows, self._parts.n_rejected, done, sum(sizes)))
                self._check_rejected(assembler, max_rejected)

    def _pending(self) -> Iterator[InputBlock]:
        """Yield the blocks without a finished part; all are cut, so that their ranges are the same again."""
        self._n_parts = 0
        for block in self._blocks():
            self._n_parts += 1
            if block.index not in self._parts.finished:
                yield block

    def _blocks(self) -> Iterator[InputBlock]:
        index = 0
        for number, source in enumerate(self._sources):
            # one block behind, because only the next one shows that it was not the last
            waiting: InputBlock | None = None
            for data, position in source.blocks(self._settings.block_bytes):
                if waiting is not None:
                    yield waiting
                    index += 1
                waiting = InputBlock(index, number, data, is_last=False, position=position)
            # an empty input has one empty block, so that its end is a part, too
            last = waiting or InputBlock(index, number, b"", is_last=True, position=source.size_bytes)
            yield InputBlock(last.index, number, last.data, is_last=True, position=last.position)
            index += 1
            source.check_unchanged()

    def _check_rejected(self, assembler: Assembler, max_rejected: int | None) -> None:
        if max_rejected is None or (found := self._parts.n_rejected) <= max_rejected:
            return
        assembler.publish_rejected()
        listed = (
            f", listed in {self._target.rejected.name}" if self._target.rejected and assembler.reasons else ""
        )
        problem = f"{found:,} rows rejected so far{listed}; --max-rejected allows {max_rejected:,}"
        raise TooManyRejectedError(problem, file=self._target.name)
