"""What a run has finished, on disk: the folder of parts, its manifest and its journal.

    open: lock ─► manifest: new, or equal, or refused ─► journal: the parts that are intact
    a part: its file ─► a line of the journal ─► … all parts ─► remove, or complete for a folder

`_manifest.json` has what the parts depend on: inputs, model, settings. `_parts.jsonl` has a line for each
part that is written completely. One process at a time works in the folder; if it is killed, the next resumes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tamis.batch.scoring import REJECTED_SUFFIX, FinishedPart
from tamis.errors import DataError

_MANIFEST, _JOURNAL, _LOCK = "_manifest.json", "_parts.jsonl", ".lock"
RUN_FILE = "_run.json"
"""What a finished folder depends on, in the form of the manifest."""

_OWN_FILES = (
    "part-*",
    ".part-*",
    ".output",
    ".rejected.csv",
    f".{_MANIFEST}",
    _JOURNAL,
    RUN_FILE,
    f".{RUN_FILE}",
)
# a later format is a difference, so parts of another version are never continued
_FORMAT = 1


class RunManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the bytes of the output depend on.

    inputs:    digest, size and name of each file, in order
    model:     name, version and digest
    settings:  those that change rows or columns
    libraries: versions of what reads and writes
    """

    inputs: list[dict[str, Any]]
    model: dict[str, str]
    settings: dict[str, Any]
    libraries: dict[str, str]
    format: int = _FORMAT

    def difference(self, other: RunManifest) -> str | None:
        """Return what differs from another manifest, None if nothing does."""
        for field in self.__struct_fields__:
            current, recorded = getattr(self, field), getattr(other, field)
            if current != recorded:
                return f"{_SINGULAR.get(field, field)} {_first_difference(current, recorded)}"
        return None


_SINGULAR = {"inputs": "input", "libraries": "library", "settings": "setting"}


def _first_difference(current: Any, recorded: Any) -> str:
    if isinstance(current, dict) and isinstance(recorded, dict):
        return next(str(key) for key in {**current, **recorded} if current.get(key) != recorded.get(key))
    if isinstance(current, list) and isinstance(recorded, list):
        for one, other in zip(current, recorded, strict=False):
            if one != other:
                return str(one.get("name"))
        return f"list ({len(recorded)} files then, {len(current)} now)"
    return "version"


class PartsFolder:
    """The folder that a run keeps its parts in; locked as long as it is open."""

    def __init__(self, path: Path):
        self.path = path
        self.finished: dict[int, FinishedPart] = {}
        self.n_rejected = 0
        self._lock: BinaryIO | None = None
        self._journal: BinaryIO | None = None

    def open(self, manifest: RunManifest, *, restart: bool) -> None:
        """Create the folder or go on in it; raise DataError if its parts are those of another run."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire()
        found = self._read_manifest()
        if found is None or restart:
            self._clear()
            unfinished = self.path / f".{_MANIFEST}"
            unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            os.replace(unfinished, self.path / _MANIFEST)
        elif difference := manifest.difference(found):
            raise DataError(
                f"the unfinished run differs in {difference}; give --restart to discard its parts",
                file=self.path,
            )
        self._read_journal()
        self._journal = (self.path / _JOURNAL).open("ab")

    def add(self, part: FinishedPart) -> None:
        """Record a part; its file is on disk already."""
        # after the part's file: whatever the journal lists is complete
        assert self._journal is not None
        self._journal.write(msgspec.json.encode(part) + b"\n")
        self._journal.flush()
        # or a loss of power takes back parts that were reported as finished
        os.fsync(self._journal.fileno())
        self.finished[part.index] = part
        self.n_rejected += part.n_rejected

    @property
    def manifest_path(self) -> Path:
        """Where the manifest of an unfinished run is."""
        return self.path / _MANIFEST

    def copy_manifest(self) -> Path:
        """Return a copy of the manifest, in the folder, that may be moved away."""
        copy = self.path / f".{RUN_FILE}"
        shutil.copyfile(self.manifest_path, copy)
        return copy

    def exists(self) -> bool:
        """Return whether an unfinished run is in the folder."""
        return (self.path / _MANIFEST).exists()

    def close(self) -> None:
        """Let another process work in the folder; raise OSError if the last line cannot be written."""
        with contextlib.ExitStack() as files:
            for file in (self._lock, self._journal):
                if file is not None:
                    files.callback(file.close)

    def remove(self) -> None:
        """Delete what this class wrote, the manifest first: without it the rest is no run."""
        (self.path / _MANIFEST).unlink()
        self._clear()
        # last: until then no other run may begin here
        (self.path / _LOCK).unlink()
        with contextlib.suppress(OSError):  # holds files of others
            self.path.rmdir()

    def complete(self) -> None:
        """Keep the parts as the output, and what they depend on as `_run.json`; delete the rest."""
        os.replace(self.path / _MANIFEST, self.path / RUN_FILE)
        for file in [*self.path.glob(f"part-*{REJECTED_SUFFIX}"), self.path / _JOURNAL, self.path / _LOCK]:
            file.unlink()

    def _acquire(self) -> None:
        lock = (self.path / _LOCK).open("ab")
        try:
            # ends with the process: the folder of a killed run can be used at once
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise DataError("another run is writing here; wait for it or stop it", file=self.path) from None
        self._lock = lock

    def _clear(self) -> None:
        for pattern in _OWN_FILES:
            for file in self.path.glob(pattern):
                file.unlink()

    def _read_manifest(self) -> RunManifest | None:
        try:
            return msgspec.json.decode((self.path / _MANIFEST).read_bytes(), type=RunManifest)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            problem = "holds a manifest that cannot be read; give --restart to discard its parts"
            raise DataError(problem, file=self.path) from None

    def _read_journal(self) -> None:
        """Take over the parts whose files are as they were listed; a torn last line is dropped."""
        path = self.path / _JOURNAL
        if not path.exists():
            return
        data = path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1]
        if len(lines) != len(data):
            # or the next line would be appended to the torn one
            os.truncate(path, len(lines))
        parts = (msgspec.json.decode(line, type=FinishedPart) for line in lines.splitlines())
        self.finished = {part.index: part for part in parts if self._is_intact(part)}
        self.n_rejected = sum(part.n_rejected for part in self.finished.values())

    def _is_intact(self, part: FinishedPart) -> bool:
        files = list(self.path.glob(f"part-{part.index:06}.*"))
        rejections = self.path / f"part-{part.index:06}{REJECTED_SUFFIX}"
        data = [file for file in files if file != rejections]
        # the size first: a part that was cut need not be read
        if len(data) != 1 or data[0].stat().st_size != part.size_bytes or _digest(data[0]) != part.sha256:
            return False
        return not part.rejected or (rejections.exists() and _digest(rejections) == part.rejected)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON has them, so that those read back compare equal."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    return found
