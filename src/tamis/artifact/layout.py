"""Where things are in a model's folder: `NAME/1`, `NAME/2` …, `NAME/aliases.json`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TypeVar

import msgspec

from tamis.errors import ArtifactError

T = TypeVar("T")

ALIASES_FILE = "aliases.json"
LOCK_FILE = ".lock"
TEMPORARY_FOLDER = ".being-written"
CHECKPOINTS_PREFIX = ".training-"

_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


def versions_in(model_folder: Path) -> list[int]:
    """Return the versions there are, ascending: folders named by a number, as it is written in decimal."""
    return [number for number in numbers_in(model_folder) if (model_folder / str(number)).is_dir()]


def numbers_in(model_folder: Path) -> list[int]:
    """Return the numbers that name anything in the folder, ascending: none is free for a new version."""
    if not model_folder.is_dir():
        return []
    names = (path.name for path in model_folder.iterdir())
    return sorted(int(name) for name in names if _VERSION.fullmatch(name))


def decode_json(data: bytes, kind: type[T], name: str) -> T:
    """Return the JSON text `data` as a `kind`; raises ArtifactError that names the file."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise ArtifactError(f"{name} cannot be read ({wrong})") from None
    except RecursionError:
        raise ArtifactError(f"{name} cannot be read (nested too deep)") from None


def digest_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file in hexadecimal, and its size in bytes."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
