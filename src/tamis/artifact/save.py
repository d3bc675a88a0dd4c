"""Writes the next version of a model: all of it or nothing, and never two processes at once.

Knows folders and locks; the caller fills the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tamis.artifact.layout import (
    CHECKPOINTS_PREFIX,
    LOCK_FILE,
    TEMPORARY_FOLDER,
    digest_file,
    versions_in,
)
from tamis.artifact.manifest import MANIFEST_FILE, FileFacts, Manifest
from tamis.errors import ArtifactError


class Reservation:
    """The right to write one version of a model: fill `folder`, then `commit` it with its manifest."""

    def __init__(self, model_folder: Path, version: int):
        self.version = version
        self.folder = model_folder / TEMPORARY_FOLDER
        self.path = model_folder / str(version)

    def checkpoints(self, work: str) -> Path:
        """Return where the training of digest `work` keeps how far it is; what others left is removed.

        Unlike `folder` it is still there after a process was killed, and goes with `commit`. Whoever
        has something to keep makes it.
        """
        chosen = self.path.parent / f"{CHECKPOINTS_PREFIX}{work[:16]}"
        self._remove_checkpoints(but=chosen)
        return chosen

    def commit(self, manifest: Manifest) -> Path:
        """Add the manifest with the digests of all files, and make the version appear at once."""
        names = sorted(path.name for path in self.folder.iterdir())
        files = {name: FileFacts(*digest_file(self.folder / name)) for name in names}
        complete = msgspec.structs.replace(manifest, files=files)
        (self.folder / MANIFEST_FILE).write_bytes(complete.to_bytes())
        for name in [*names, MANIFEST_FILE]:
            _sync(self.folder / name)
        _sync(self.folder)
        os.rename(self.folder, self.path)
        _sync(self.path.parent)
        self._remove_checkpoints()
        return self.path

    def _remove_checkpoints(self, *, but: Path | None = None) -> None:
        for folder in self.path.parent.glob(f"{CHECKPOINTS_PREFIX}*"):
            if folder != but:
                _remove(folder)


@contextmanager
def reserve_version(model_folder: Path) -> Iterator[Reservation]:
    """Reserve the next version of the model in `model_folder` for as long as the block runs.

    Raises ArtifactError where another process holds it. What was written and not committed is removed.
    """
    model_folder.mkdir(parents=True, exist_ok=True)
    with open(model_folder / LOCK_FILE, "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"{model_folder}: another process is writing this model; try again when it has finished"
            ) from None
        reservation = Reservation(model_folder, max(versions_in(model_folder), default=0) + 1)
        _remove(reservation.folder)  # of a process that was killed: the lock is ours
        reservation.folder.mkdir()
        try:
            yield reservation
        finally:
            _remove(reservation.folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
