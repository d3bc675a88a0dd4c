"""Files that are written completely or not at all.

Handles folders, file modes and CSV quoting; independent of what the rows mean.
"""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tamis.errors import DataError
from tamis.types import Dataset


@contextmanager
def atomic_text_file(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a UTF-8 file that replaces `path` if the block succeeds, and is removed otherwise.

    Missing folders are made; line ends are written as they are given. A link is followed, and a
    device or a folder is refused: it would be replaced by a file.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise DataError("is not a regular file and will not be replaced", file=path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to their owner, and a data set need not be.
    unfinished = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(unfinished, "x", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            unfinished.chmod(target.stat().st_mode)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(target.parent)


def write_dataset(dataset: Dataset, path: str | os.PathLike[str], *, rows: bool = False) -> None:
    """Write `dataset` as a CSV with the columns label, text and, if it has them, source and group.

    With `rows`, a last column row holds the number of the row that each example came from.
    """
    columns = {"label": dataset.labels, "text": dataset.texts}
    if dataset.sources is not None:
        columns["source"] = dataset.sources
    if dataset.groups is not None:
        columns["group"] = dataset.groups
    if rows:
        columns["row"] = [str(row) for row in dataset.rows]
    with atomic_text_file(path) as file:
        plain = csv.writer(file, lineterminator="\n")
        # The csv module of Python 3.11 leaves a lone "\r" unquoted, which then reads as a line end.
        careful = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(columns)
        for cells in zip(*columns.values(), strict=True):
            writer = careful if any("\r" in cell for cell in cells) else plain
            writer.writerow(cells)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
