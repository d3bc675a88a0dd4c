"""The manifest of a model version, and where its files are: `NAME/1` …, `NAME/aliases.json`.

Nothing in a manifest depends on the clock or on where it was written: the same input and settings
give the same bytes, and their digest is the model's identity. Independent of any model.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tamis.errors import ArtifactError
from tamis.normalization import CANONICAL_FORM, TEXT_FORMS

T = TypeVar("T")

ALIASES_FILE = "aliases.json"
LOCK_FILE = ".lock"
TEMPORARY_FOLDER = ".being-written"
CHECKPOINTS_PREFIX = ".training-"

# 18 digits fit into 64 bits; a leading zero would give one version two names
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.html"
CARD_FILE = "MODEL_CARD.md"
# every response lists all labels
_MAX_LABELS = 10_000
_MAX_SHOWN = 60


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
    # a hostile file may be nested deeper than the decoder's stack
    except RecursionError:
        raise ArtifactError(f"{name} cannot be read (nested too deep)") from None


def digest_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file in hexadecimal, and its size in bytes."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


class FileFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and digest of one file of the folder."""

    sha256: str
    size_bytes: int


class DataFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was trained on: the file's digest, the split, the rows of each part.

    train_rows, train_classes: rows that the measured model learned
    test_rows:    rows that the metrics were measured on
    learned_rows: rows that the saved model has learned: those of both parts, or of the training part alone;
                  None in models of earlier versions, which learned the training part
    unmeasured:   labels without a row in the test part, with their rows
    reading:      how the file was read, beside the columns: only what differs from the usual
    min_rows, merge_rare: what was done about rare labels, as in `tamis prepare`
    """

    sha256: str
    split: str
    test_size: float
    seed: int
    columns: dict[str, str | None]
    train_rows: int
    test_rows: int
    train_classes: dict[str, int]
    reading: dict[str, Any] = {}
    learned_rows: int | None = None
    unmeasured: dict[str, int] = {}
    min_rows: int = 1
    merge_rare: str | None = None

    @property
    def has_learned_all_rows(self) -> bool:
        """Whether the saved model has learned the test part too, after it was measured."""
        return self.learned_rows is not None and self.learned_rows > self.train_rows


class OperatingPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The probability of `positive` from which on a binary model decides for it, and how that was chosen."""

    positive: str
    threshold: float
    max_false_positive_rate: float
    expected_recall: float
    expected_false_positive_rate: float
    chosen_on: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of `manifest.json`; `model` holds what the scorer of this kind needs to know."""

    format_version: int = FORMAT_VERSION
    kind: str
    labels: tuple[str, ...]
    text_form: str = CANONICAL_FORM
    model: dict[str, Any]
    training: dict[str, Any]
    calibration: dict[str, Any]
    operating_point: OperatingPoint | None = None
    data: DataFacts
    metrics: dict[str, Any]
    libraries: dict[str, str]
    files: dict[str, FileFacts] = {}

    def to_bytes(self) -> bytes:
        """Return the JSON text, keys in the order of their definition, two blanks of indentation."""
        # the identity is the digest of these bytes: another order or indentation is another model
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def identity_of(manifest_bytes: bytes) -> str:
    """Return the model's identity: the SHA-256 of its manifest, which holds those of all other files."""
    return hashlib.sha256(manifest_bytes).hexdigest()


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest; raises ArtifactError with the cause."""
    # first, because a manifest of another format has other fields, which would hide the cause
    version = decode_json(data, dict[str, Any], MANIFEST_FILE).get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"format version {_shown(version)}; this version of Tamis reads format {FORMAT_VERSION}: "
            "install the version that wrote it, or train again"
        )
    manifest = decode_json(data, Manifest, MANIFEST_FILE)
    _check(manifest)
    return manifest


def _shown(value: object) -> str:
    """Return a value of unknown size, shortened for a message."""
    # ASCII without control characters: the value is that of a file, and goes to a terminal
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _check(manifest: Manifest) -> None:
    labels = manifest.labels
    if not 2 <= len(labels) <= _MAX_LABELS or len(set(labels)) != len(labels):
        raise ArtifactError(f"{MANIFEST_FILE} must name at least two different labels")
    if manifest.text_form not in TEXT_FORMS:
        raise ArtifactError(
            f"the model expects texts in the form {manifest.text_form!r}, this version of Tamis makes "
            f"{CANONICAL_FORM!r}: train again"
        )
    point = manifest.operating_point
    # an operating point decides between two labels
    if point is not None and (len(labels) != 2 or point.positive not in labels):
        raise ArtifactError(f"{MANIFEST_FILE}: the operating point does not fit the labels")
    if point is not None and not 0 <= point.threshold < 1.01:  # just above 1 where nothing is to be flagged
        raise ArtifactError(f"{MANIFEST_FILE}: the operating point's threshold is no probability")


def write_json(path: Path, value: Any) -> None:
    """Replace a file by a value as indented JSON; it appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        # before the rename, or a loss of power could leave an empty file under the name
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


FileStamp = tuple[int, int, int]
"""Inode, time and size of a file: any of them differs after the file was replaced."""


def file_stamp(path: Path) -> FileStamp | None:
    """Return the stamp of a file, None if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    # the inode too: a file may be replaced twice within the resolution of its time
    return found.st_ino, found.st_mtime_ns, found.st_size
