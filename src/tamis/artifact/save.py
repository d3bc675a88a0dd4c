"""Writes the next version of a model: all of it or nothing, and never two processes at once.

Handles folders and locks; the caller fills the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tamis.artifact.manifest import (
    CHECKPOINTS_PREFIX,
    LOCK_FILE,
    MANIFEST_FILE,
    TEMPORARY_FOLDER,
    FileFacts,
    Manifest,
    digest_file,
    numbers_in,
    parse_manifest,
)
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
        written = msgspec.structs.replace(manifest, files=files).to_bytes()
        parse_manifest(written)  # what could not be opened again must not become a version
        (self.folder / MANIFEST_FILE).write_bytes(written)
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

    Raises ArtifactError if another process holds it. What was written and not committed is removed,
    and so are folders that were made for it, unless something is in them.
    """
    made = [folder for folder in (model_folder, *model_folder.parents) if not folder.exists()]
    with _locked(model_folder):
        reservation = Reservation(model_folder, max(numbers_in(model_folder), default=0) + 1)
        _remove(reservation.folder)  # of a process that was killed: the lock is ours
        reservation.folder.mkdir()
        try:
            yield reservation
        finally:
            _remove(reservation.folder)
            if made and {path.name for path in model_folder.iterdir()} == {LOCK_FILE}:
                (model_folder / LOCK_FILE).unlink()
                _remove_empty(made)


@contextmanager
def _locked(model_folder: Path) -> Iterator[None]:
    """Hold the lock of a model's folder, which is made if it is missing."""
    while True:
        model_folder.mkdir(parents=True, exist_ok=True)
        with open(model_folder / LOCK_FILE, "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArtifactError(
                    f"{model_folder}: another process is writing this model; try again when it has finished"
                ) from None
            # A failed training may have removed the file between `open` and `flock`: then this locks nothing.
            if os.fstat(lock.fileno()).st_nlink:
                yield
                return


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, until one holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
