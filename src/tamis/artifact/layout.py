"""Where things are in a model's folder: `NAME/1`, `NAME/2` …, `NAME/aliases.json`."""

from __future__ import annotations

import hashlib
from pathlib import Path

ALIASES_FILE = "aliases.json"
LOCK_FILE = ".lock"
TEMPORARY_FOLDER = ".being-written"
CHECKPOINTS_PREFIX = ".training-"


def versions_in(model_folder: Path) -> list[int]:
    """Return the versions there are, ascending."""
    if not model_folder.is_dir():
        return []
    names = (path.name for path in model_folder.iterdir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def digest_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file in hexadecimal, and its size in bytes."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
