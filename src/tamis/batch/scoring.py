"""From a block to a part: parse, reject what cannot be scored, classify, write.

A `ScoreJob` holds all that this depends on and can be pickled, so that any process can make any part.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import compute

from tamis.batch.blocks import BlockParser, InputBlock, ParsedBlock, Rejection
from tamis.batch.sinks import OutputSink
from tamis.inference.classifier import Classifier
from tamis.inference.tables import prediction_arrays

REJECTED_SUFFIX = ".rejected"


@dataclass(frozen=True)
class ScoreJob:
    """All that a part depends on, besides its block.

    kept:    names of the carried columns in the output, by name in the input
    outputs: names of the prediction columns in the output, by the usual name
    is_shared: whether processes on other machines see `folder`
    """

    classifier: Classifier
    parsers: tuple[BlockParser, ...]
    sink: OutputSink
    schema: Any
    folder: Path
    outputs: Mapping[str, str]
    max_characters: int
    is_shared: bool = True

    @property
    def scores(self) -> bool:
        """Whether each label has a column."""
        # label, decision and score are always there
        return len(self.outputs) > 3 + self.explain

    @property
    def explain(self) -> bool:
        """Whether the top tokens have a column."""
        return "explanation" in self.outputs

    def part_path(self, index: int) -> Path:
        """Return where a part's rows are written."""
        return self.folder / f"part-{index:06}{self.sink.part_suffix}"


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """A part that is on disk, as the manifest lists it.

    n_rows:   rows of the block, rejected ones included
    position: bytes of the input consumed up to its end
    sha256:   digest of the part's file
    rejected: digest of the file of its rejections, empty if there are none
    """

    index: int
    source: int
    n_rows: int
    n_rejected: int
    position: int
    size_bytes: int
    sha256: str
    rejected: str = ""


class EncodedPart(NamedTuple):
    """A part before it is on disk: what the manifest will list, its bytes and those of its rejections."""

    part: FinishedPart
    data: bytes
    rejections: bytes


def encode_block(job: ScoreJob, block: InputBlock) -> EncodedPart:
    """Return the part of a block; doing it twice gives the same bytes."""
    parsed = job.parsers[block.source].parse(block.read(), is_last=block.is_last)
    texts, kept, rejected = _accepted(parsed, job.max_characters)
    arrays = prediction_arrays(job.classifier, texts, scores=job.scores, explain=job.explain)
    columns = [*kept.columns, *arrays.values()]
    data = job.sink.encode_part(pyarrow.RecordBatch.from_arrays(columns, schema=job.schema))
    # "replace": an unpaired surrogate in a reason must not fail the part
    rejections = "".join(f"{row}\t{reason}\n" for row, reason in rejected).encode("utf-8", "replace")
    part = FinishedPart(
        index=block.index,
        source=block.source,
        n_rows=parsed.n_rows,
        n_rejected=len(rejected),
        position=block.position,
        size_bytes=len(data),
        sha256=sha256(data).hexdigest(),
        rejected=sha256(rejections).hexdigest() if rejections else "",
    )
    return EncodedPart(part, data, rejections)


def write_part(job: ScoreJob, encoded: EncodedPart) -> FinishedPart:
    """Write a part into the job's folder."""
    path = job.part_path(encoded.part.index)
    _write(path, encoded.data)
    # without rejections there is no such file, and no digest of one in the journal
    if encoded.rejections:
        _write(path.with_suffix(REJECTED_SUFFIX), encoded.rejections)
    return encoded.part


def score_block(job: ScoreJob, block: InputBlock) -> FinishedPart:
    """Write the part of a block; doing it twice writes the same bytes."""
    return write_part(job, encode_block(job, block))


def _accepted(parsed: ParsedBlock, max_characters: int) -> tuple[Any, Any, Sequence[Rejection]]:
    """Return the texts that can be classified, their kept columns, and all rejections in order of rows."""
    # Arrow functions on whole columns: no Python object per row
    n_visible = compute.utf8_length(compute.utf8_trim_whitespace(parsed.texts))
    blank = compute.fill_null(compute.equal(n_visible, 0), True)
    is_long = compute.fill_null(compute.greater(compute.utf8_length(parsed.texts), max_characters), False)
    bad = compute.or_(blank, is_long)
    if not compute.any(bad).as_py():
        return parsed.texts, parsed.kept, parsed.rejected
    rejected = list(parsed.rejected)
    indices = compute.indices_nonzero(bad)
    for index, is_blank in zip(indices.to_pylist(), blank.take(indices).to_pylist(), strict=True):
        number = index + 1 if parsed.numbers is None else parsed.numbers[index]
        rejected.append(Rejection(number, "no text" if is_blank else f"over {max_characters:,} characters"))
    good = compute.invert(bad)
    return parsed.texts.filter(good), parsed.kept.filter(good), sorted(rejected)


def read_rejections(path: Path) -> list[Rejection]:
    """Return what a part's file of rejections lists."""
    lines = path.read_text("utf-8").splitlines()
    return [Rejection(int(row), reason) for row, _, reason in (line.partition("\t") for line in lines)]


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears complete or not at all."""
    # the process id: a task that is repeated elsewhere may write the same part at the same time
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            # on the disk before its name: the journal may list it right after
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
