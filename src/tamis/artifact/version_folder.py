"""Opens the folder of a model's version, and writes the next one: all of it or nothing.

A reference is `models/spam` (the newest version), `models/spam@3`, `models/spam@champion` (an
alias), or the folder of a version itself. Reading verifies checksums before anything is parsed; nothing in
a folder is ever executed. Writing holds the lock of the model's folder; the caller fills the version's:

    lock ─► .being-written/: files ─► manifest with their digests ─► fsync ─► rename to NAME/N ─► fsync
"""

from __future__ import annotations

import fcntl
import hashlib
import html
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tamis.artifact.manifest import (
    ALIASES_FILE,
    CARD_FILE,
    CHECKPOINTS_PREFIX,
    LOCK_FILE,
    MANIFEST_FILE,
    TEMPORARY_FOLDER,
    FileFacts,
    Manifest,
    decode_json,
    digest_file,
    identity_of,
    numbers_in,
    parse_manifest,
    versions_in,
)
from tamis.errors import ArtifactError

if TYPE_CHECKING:
    from tamis.models.scorer import ModelFiles


# read before any checksum is known, so the size is bounded first
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
# the manifest gives the size that is read: a wrong one must not allocate all memory
_MAX_FILE_BYTES = 4 * 1024**3
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Artifact:
    """A verified model folder. `identity` is the digest of its manifest."""

    path: Path
    manifest: Manifest
    identity: str

    @property
    def name(self) -> str:
        """The model's name: that of the folder around the version."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """The version, as the folder is called."""
        return self.path.name

    @property
    def model_files(self) -> ModelFiles:
        """What the model's scorer is loaded from."""
        from tamis.models.scorer import ModelFiles  # brings numpy, which a supervisor of workers does without

        return ModelFiles(self.manifest.model, len(self.manifest.labels), self.read)

    def read(self, name: str) -> bytes:
        """Return the bytes of one file, verified again: what is parsed is what was checked."""
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.path}: {MANIFEST_FILE} lists no {name}, which serving needs")
        return _read_verified(self.path, name, self.manifest.files[name])

    def document(self, name: str) -> bytes:
        """Return the report or the model card, with the model's name and version in its title.

        The stored files have neither: the same training gives the same bytes under any name.
        """
        contents, model = self.read(name), f"{self.name}, version {self.version}: "
        title = html.escape(model).encode("utf-8", "replace")
        if name == CARD_FILE:
            return contents.replace(b"# ", b"# " + title, 1)
        return contents.replace(b"<title>", b"<title>" + title, 1).replace(b"<h1>", b"<h1>" + title, 1)


def open_artifact(reference: str | os.PathLike[str]) -> Artifact:
    """Find, verify and open a model; raises ArtifactError that names file and cause."""
    path = find_version(os.fspath(reference))
    try:
        data = _regular_file_bytes(path / MANIFEST_FILE, _MAX_MANIFEST_BYTES)
        manifest = parse_manifest(data)
    except ArtifactError as wrong:
        raise ArtifactError(f"{path}: {wrong}") from None
    for name, facts in manifest.files.items():
        _read_verified(path, name, facts)
    return Artifact(path, manifest, identity_of(data))


def find_version(reference: str) -> Path:
    """Return the folder of the version that `reference` names."""
    # an existing path may contain an @ itself
    base, _, selector = reference.partition("@") if not Path(reference).exists() else (reference, "", "")
    folder = Path(base)
    if (folder / MANIFEST_FILE).exists() and not selector:
        return folder.resolve()
    if not folder.is_dir():
        raise ArtifactError(
            f"{reference}: there is no such model; train one with `tamis train DATA.csv -o {base}`"
        )
    versions = versions_in(folder)
    if not versions:
        raise ArtifactError(f"{folder}: no version of a model is in this folder")
    version: int | None = versions[-1]
    if selector:
        is_number = selector.isascii() and selector.isdigit()
        version = int(selector) if is_number else read_aliases(folder).get(selector)
    if version not in versions:
        raise ArtifactError(f"{folder} has no version {selector}; there are {', '.join(map(str, versions))}")
    return folder.resolve() / str(version)


def read_aliases(folder: Path) -> dict[str, int]:
    """Return the aliases of a model's folder and the version of each."""
    path = folder / ALIASES_FILE
    if not path.exists():
        return {}
    return decode_json(path.read_bytes(), dict[str, int], str(path))


def _read_verified(folder: Path, name: str, facts: FileFacts) -> bytes:
    # the manifest is untrusted: a name such as ../x must not be opened
    if not _PLAIN_NAME.fullmatch(name):
        raise ArtifactError(f"{folder}: {MANIFEST_FILE} lists a file name that is not plain")
    if not 0 <= facts.size_bytes <= _MAX_FILE_BYTES:
        raise ArtifactError(
            f"{folder}: {MANIFEST_FILE} gives {name} an impossible size of {facts.size_bytes} bytes"
        )
    try:
        data = _regular_file_bytes(folder / name, facts.size_bytes)
    except ArtifactError as wrong:
        raise ArtifactError(f"{folder}: {wrong}") from None
    if len(data) != facts.size_bytes:
        raise ArtifactError(f"{folder}: {name} is cut short: {len(data):,} of {facts.size_bytes:,} bytes")
    if hashlib.sha256(data).hexdigest() != facts.sha256:
        raise ArtifactError(
            f"{folder}: {name} was changed after training (its SHA-256 is not the manifest's)"
        )
    return data


def _regular_file_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a file that is neither a link nor a device, and no longer than allowed."""
    # a link could lead to a file outside of the folder, which another user may replace
    if path.is_symlink():
        raise ArtifactError(f"{path.name} is a symbolic link; a model folder holds plain files only")
    if not path.is_file():
        raise ArtifactError(f"{path.name} is missing")
    with path.open("rb") as file:
        # one byte more shows a longer file, without trusting the size that `stat` reports
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ArtifactError(f"{path.name} is longer than the {max_bytes:,} bytes it should have")
    return data


class Reservation:
    """The right to write one version of a model: fill `folder`, then `commit` it with its manifest."""

    def __init__(self, model_folder: Path, version: int):
        self.version = version
        self.folder = model_folder / TEMPORARY_FOLDER
        self.path = model_folder / str(version)

    def checkpoints(self, work: str) -> Path:
        """Return the folder for the checkpoints of the training of digest `work`; remove those of others.

        It is not created. Unlike `folder` it stays when a process is killed, and `commit` deletes it.
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
        # all bytes on the disk before the name appears: a version is complete or missing
        for name in [*names, MANIFEST_FILE]:
            _sync(self.folder / name)
        _sync(self.folder)
        # fails where files are: an existing version is never overwritten
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
    # the innermost first, which is also the order of removal
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
                with suppress(OSError):  # until one holds something
                    for folder in made:
                        folder.rmdir()


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


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
