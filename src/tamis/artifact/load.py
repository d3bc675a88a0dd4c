"""Opens a model folder: checksums first, then parsing. Nothing in it is ever executed.

A reference is `models/spam` (the newest version), `models/spam@3`, `models/spam@champion` (an
alias), or the folder of a version itself. Handles files; independent of what the weights mean.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tamis.artifact.manifest import (
    ALIASES_FILE,
    CARD_FILE,
    MANIFEST_FILE,
    FileFacts,
    Manifest,
    decode_json,
    identity_of,
    parse_manifest,
    versions_in,
)
from tamis.errors import ArtifactError

if TYPE_CHECKING:
    from tamis.models.scorer import ModelFiles

_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
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
    """Find, verify and open a model; raises ArtifactError that says what is wrong with which file."""
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
    version = _select(folder, selector) if selector else versions[-1]
    if version not in versions:
        raise ArtifactError(f"{folder} has no version {selector}; there are {', '.join(map(str, versions))}")
    return folder.resolve() / str(version)


def _select(folder: Path, selector: str) -> int | None:
    if selector.isascii() and selector.isdigit():
        return int(selector)
    return read_aliases(folder).get(selector)


def read_aliases(folder: Path) -> dict[str, int]:
    """Return the aliases of a model's folder and the version of each."""
    path = folder / ALIASES_FILE
    if not path.exists():
        return {}
    return decode_json(path.read_bytes(), dict[str, int], str(path))


def _read_verified(folder: Path, name: str, facts: FileFacts) -> bytes:
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
    if path.is_symlink():
        raise ArtifactError(f"{path.name} is a symbolic link; a model folder holds plain files only")
    if not path.is_file():
        raise ArtifactError(f"{path.name} is missing")
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ArtifactError(f"{path.name} is longer than the {max_bytes:,} bytes it should have")
    return data
