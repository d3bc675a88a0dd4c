"""Finished parts, in their order, become the output and the list of rejected rows.

Both are written inside the folder of parts and published at the very end: renamed, or uploaded. Knows parts;
does not score.
"""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow

from tamis.batch.destinations import Destination, ObjectFolder
from tamis.batch.object_store import is_url
from tamis.batch.scoring import REJECTED_SUFFIX, FinishedPart, ScoreJob, read_rejections
from tamis.batch.sinks import Assembly, OutputSink, sink_for
from tamis.errors import DataError


@dataclass(frozen=True)
class OutputTarget:
    """Where the output goes: a file, a folder of parts, or an open stream.

    name:      as the user gave it
    parts:     the folder of parts; that of an object's parts is in the working directory
    output:    the file or object, None for a folder or a stream
    rejected:  the file of rejected rows, None to count them only
    record:    the file that says what an output without metadata depends on, None if there is no need
    is_folder: whether the output is the parts themselves
    remote:    where the parts of such a folder are uploaded to, None if they stay where they are
    """

    name: str
    parts: Path
    sink: OutputSink
    output: Destination | None = None
    rejected: Destination | None = None
    record: Destination | None = None
    is_folder: bool = False
    remote: ObjectFolder | None = None
    stream: BinaryIO | None = None

    @classmethod
    def of(cls, name: str, *, format: str | None = None, rejected: str | None = None) -> Self:
        """Return the target of `-o NAME`; a folder exists already or is named with a final slash."""
        is_folder = name.endswith("/") or (not is_url(name) and Path(name).is_dir())
        # a folder has no ending that names a format
        label = f"part.{format or 'parquet'}" if is_folder else f"part.{format}" if format else name
        sink = sink_for(label, is_folder=is_folder)
        # beside the output, so on its file system; of an object, in the working directory
        parts = Path(f"{name.rstrip('/').rpartition('/')[2] if is_url(name) else name.rstrip('/')}.parts")
        listed = f"{name.rstrip('/')}/_rejected.csv" if is_folder else f"{name}.rejected.csv"
        target = cls(name, parts, sink, rejected=Destination(rejected or listed), is_folder=is_folder)
        if not is_folder:
            record = None if sink.has_metadata else Destination(f"{name}.run.json")
            return replace(target, output=Destination(name), record=record)
        return (
            replace(target, remote=ObjectFolder(name)) if is_url(name) else replace(target, parts=Path(name))
        )

    @property
    def is_shared(self) -> bool:
        """Whether processes on other machines are expected to see the folder of parts."""
        return not is_url(self.name)

    @property
    def own_paths(self) -> list[Path]:
        """What a run writes here, which no folder or glob may read."""
        written = (self.output, self.rejected, self.record)
        return [self.parts, *(one.path for one in written if one is not None and one.path is not None)]

    def owns(self, url: str) -> bool:
        """Return whether a run writes this object, which no prefix or glob may read."""
        written = [one.name for one in (self.output, self.rejected, self.record) if one is not None]
        return url in written or (self.remote is not None and url.startswith(self.remote.url))

    def check(self, *, restart: bool, is_resumed: bool) -> None:
        """Raise DataError rather than replace a file that no unfinished run is going to write."""
        if self.stream is not None or restart or is_resumed:
            return
        found = self.remote.parts() if self.remote else self.is_folder and [*self.parts.glob("part-*")]
        if found:
            raise DataError("holds parts already; give --restart to replace them", file=self.name)
        if self.output is not None and self.output.exists():
            raise DataError("exists already; give --restart to replace it", file=self.name)


class Assembler:
    """Takes parts in any order and writes them in theirs.

    n_rows:  rows assembled, rejected ones included
    reasons: how many rows were rejected for each reason
    """

    def __init__(self, job: ScoreJob, target: OutputTarget, names: Sequence[str]):
        self._job, self._target, self._names = job, target, names
        # parts arrive in any order; those that wait for an earlier one stay on disk
        self._next = 0
        self._rows_before: Counter[int] = Counter()
        self._output: Assembly | None = None
        self._files = ExitStack()
        self._rejected: Any = None
        self.reasons: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._target.parts.mkdir(parents=True, exist_ok=True)
        if self._target.stream is not None:
            self._output = self._job.sink.assembly(self._target.stream, self._job.schema)
        elif not self._target.is_folder:
            file = self._files.enter_context(self._unfinished_output.open("wb"))
            self._output = self._job.sink.assembly(file, self._job.schema)
        listed = self._files.enter_context(self._unfinished_rejected.open("w", encoding="utf-8", newline=""))
        self._rejected = csv.writer(listed, lineterminator="\n")
        self._rejected.writerow(["file", "row", "reason"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._output is not None:  # a writer of Parquet that is never closed complains when it is deleted
            with contextlib.suppress(OSError, pyarrow.ArrowException):
                self._output.close()
        self._files.close()

    def advance(self, finished: Mapping[int, FinishedPart]) -> None:
        """Append every part that follows those appended before."""
        while (part := finished.get(self._next)) is not None:
            path = self._job.part_path(part.index)
            if self._output is not None:
                self._output.add(path)
            if self._target.remote is not None:
                self._target.remote.add(path)
            if part.rejected:
                # rows are counted over the whole input, a part knows its own only
                before, name = self._rows_before[part.source], self._names[part.source]
                for row, reason in read_rejections(path.with_suffix(REJECTED_SUFFIX)):
                    self._rejected.writerow([name, before + row, reason])
                    self.reasons[reason] += 1
            self._rows_before[part.source] += part.n_rows
            self._next += 1

    def finish(self, n_parts: int) -> None:
        """Publish what was written; all `n_parts` have been appended."""
        if self._next != n_parts:
            raise DataError(f"part {self._next} is missing; run again", file=self._target.parts)
        if self._output is not None:
            self._output.close()
            self._output = None
        self.publish_rejected()
        if self._target.stream is None and self._target.output is not None:
            self._target.output.publish(self._unfinished_output)

    def publish_rejected(self) -> None:
        """Close the list of rejected rows and put it beside the output; without a row there is no list."""
        # closed before it is published: all rows must be in the file
        self._files.close()
        if self._target.rejected is None:
            return
        if self.reasons:
            self._target.rejected.publish(self._unfinished_rejected)
        else:
            self._target.rejected.remove()
            self._unfinished_rejected.unlink()

    @property
    def _unfinished_output(self) -> Path:
        return self._target.parts / ".output"

    @property
    def _unfinished_rejected(self) -> Path:
        return self._target.parts / ".rejected.csv"
