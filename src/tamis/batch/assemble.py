"""Finished parts, in their order, become the output and the list of rejected rows.

Both are written inside the folder of parts and renamed at the very end. Knows parts; does not score.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow

from tamis.batch.scoring import REJECTED_SUFFIX, FinishedPart, ScoreJob, read_rejections
from tamis.batch.sinks import Assembly, OutputSink, sink_for
from tamis.errors import DataError


@dataclass(frozen=True)
class OutputTarget:
    """Where the output goes: a file, a folder of parts, or an open stream.

    parts:    the folder that parts are kept in
    rejected: the file of rejected rows, None to count them only
    """

    path: Path
    parts: Path
    rejected: Path | None
    sink: OutputSink
    is_folder: bool = False
    stream: BinaryIO | None = None

    @classmethod
    def of(cls, name: str, *, format: str | None = None, rejected: str | None = None) -> Self:
        """Return the target of `-o NAME`; a folder exists already or is named with a final slash."""
        path = Path(name)
        if name.endswith("/") or path.is_dir():
            sink = sink_for(f"part.{format or 'parquet'}", is_folder=True)
            return cls(path, path, Path(rejected) if rejected else path / "_rejected.csv", sink, True)
        sink = sink_for(f"part.{format}" if format else name, is_folder=False)
        listed = Path(rejected) if rejected else path.with_name(f"{path.name}.rejected.csv")
        return cls(path, path.with_name(f"{path.name}.parts"), listed, sink)

    @property
    def own_paths(self) -> list[Path]:
        """What a run writes, which no folder or glob may read."""
        return [self.path, self.parts, *([self.rejected] if self.rejected else [])]

    def check(self, *, restart: bool, is_resumed: bool) -> None:
        """Raise DataError rather than replace a file that no unfinished run is going to write."""
        if self.stream is not None or restart or is_resumed:
            return
        if self.is_folder and any(self.path.glob("part-*")):
            raise DataError("holds parts already; give --restart to replace them", file=self.path)
        if not self.is_folder and self.path.exists():
            raise DataError("exists already; give --restart to replace it", file=self.path)


class Assembler:
    """Takes parts in any order and writes them in theirs.

    n_rows:  rows assembled, rejected ones included
    reasons: how many rows were rejected for each reason
    """

    def __init__(self, job: ScoreJob, target: OutputTarget, names: Sequence[str]):
        self._job, self._target, self._names = job, target, names
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
            if part.rejected:
                self._list_rejected(part, path.with_suffix(REJECTED_SUFFIX))
            self._rows_before[part.source] += part.n_rows
            self._next += 1

    def finish(self, n_parts: int) -> None:
        """Rename what was written to where it belongs; all `n_parts` have been appended."""
        if self._next != n_parts:
            raise DataError(f"part {self._next} is missing; run again", file=self._target.parts)
        if self._output is not None:
            self._output.close()
            self._output = None
        self.publish_rejected()
        if self._target.stream is None and not self._target.is_folder:
            with self._unfinished_output.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(self._unfinished_output, self._target.path)

    def publish_rejected(self) -> None:
        """Close the list of rejected rows and put it beside the output; without a row there is no list."""
        self._files.close()
        if self._target.rejected is None:
            return
        if self.reasons:
            os.replace(self._unfinished_rejected, self._target.rejected)
        else:
            self._target.rejected.unlink(missing_ok=True)
            self._unfinished_rejected.unlink()

    def _list_rejected(self, part: FinishedPart, path: Path) -> None:
        before, name = self._rows_before[part.source], self._names[part.source]
        for row, reason in read_rejections(path):
            self._rejected.writerow([name, before + row, reason])
            self.reasons[reason] += 1

    @property
    def _unfinished_output(self) -> Path:
        return self._target.parts / ".output"

    @property
    def _unfinished_rejected(self) -> Path:
        return self._target.parts / ".rejected.csv"
