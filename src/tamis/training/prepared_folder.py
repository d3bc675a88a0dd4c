"""The folder of `tamis prepare`:

    train.csv, test.csv   the two parts
    audit.json            the audit of the file that was divided
    prepared.json         settings, and the digests of both parts: a part that was edited is refused

The same file and settings give the same bytes: nothing in the folder depends on when or where it was
made. Independent of how the parts were chosen.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec

from tamis import __version__
from tamis.data.audit import AuditReport
from tamis.data.inspection import InspectedFile, inspect_file
from tamis.data.reader import Paths
from tamis.data.tables import USUAL_OPTIONS, Needed, open_table, write_dataset
from tamis.errors import DataError
from tamis.training.prepare import Prepared, PrepareSettings
from tamis.types import Dataset, no_progress

FORMAT = 2
DESCRIPTION = "prepared.json"
AUDIT = "audit.json"

# what `write_dataset` writes: read without guessing, which could find something else in unusual texts
_WRITTEN = replace(USUAL_OPTIONS, encoding="utf-8", delimiter=",", escape="none")
_REQUIRED = ("label", "text", "group", "row")
_AGAIN = "make the folder again with tamis prepare"


class PartDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part: its file's digest, its rows, and the rows of each class."""

    sha256: str
    rows: int
    classes: dict[str, int]


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of `prepared.json`."""

    format: int = FORMAT
    tamis: str = __version__
    data_sha256: str
    settings: PrepareSettings
    assumed: tuple[str, ...] = ()
    absent_from_test: tuple[str, ...]
    parts: dict[str, PartDescription]


class _FormatOnly(msgspec.Struct):
    # read by itself first: fields of another format would be reported as unknown ones instead
    format: int


def prepared_folder_in(data: Paths) -> Path | None:
    """Return the folder if `data` is a single folder, which `tamis prepare` should have made."""
    paths = [Path(data)] if isinstance(data, str | os.PathLike) else [Path(path) for path in data]
    return paths[0] if len(paths) == 1 and paths[0].is_dir() else None


def check_replaceable(folder: Path) -> None:
    """Raise DataError unless `folder` is new, or holds only what `tamis prepare` wrote and a README."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError("is a file; name a folder to write to", file=folder)
    # whatever else is there would be lost: the folder is replaced as a whole
    names = {path.name for path in folder.iterdir() if not _is_readme(path)}
    foreign = sorted(names - {DESCRIPTION, AUDIT, "train.csv", "test.csv"})
    if foreign or (names and DESCRIPTION not in names):
        what = f"holds {(foreign or sorted(names))[0]!r}, which tamis prepare did not write"
        raise DataError(f"{what}; name another folder", file=folder)


def _is_readme(path: Path) -> bool:
    return path.is_file() and path.name.lower().split(".")[0] == "readme"


def write_prepared(prepared: Prepared, report: AuditReport, folder: Path) -> Description:
    """Write the parts and `report` to `folder`, whole or not at all, in place of an earlier preparation."""
    check_replaceable(folder)
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    # beside the target, because a rename within one file system is all or nothing
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        unfinished.mkdir()
        description = _write_files(prepared, report, unfinished)
        _put_in_place(unfinished, target)
    finally:  # after a success it has the target's name; errors must not hide the one that led here
        shutil.rmtree(unfinished, ignore_errors=True)
    return description


def read_prepared(folder: str | os.PathLike[str]) -> Prepared:
    """Read what `write_prepared` wrote; raise DataError where a file is missing or was changed."""
    description = _read_description(Path(folder) / DESCRIPTION)
    train, test = (_read_part(Path(folder), name, description) for name in ("train", "test"))
    return Prepared(train, test, description.settings, description.data_sha256, description.assumed)


def _write_files(prepared: Prepared, report: AuditReport, folder: Path) -> Description:
    parts = {}
    for name, part in (("train", prepared.train), ("test", prepared.test)):
        file = folder / f"{name}.csv"
        write_dataset(part, file, rows=True)
        parts[name] = PartDescription(
            inspect_file(file).sha256, len(part), dict(sorted(Counter(part.labels).items()))
        )
    description = Description(
        data_sha256=prepared.data_sha256,
        settings=prepared.settings,
        assumed=prepared.assumed,
        absent_from_test=tuple(prepared.unmeasured),
        parts=parts,
    )
    for file_name, contents in ((AUDIT, report), (DESCRIPTION, description)):
        formatted = msgspec.json.format(msgspec.json.encode(contents), indent=2)
        (folder / file_name).write_bytes(formatted + b"\n")
    return description


def _put_in_place(unfinished: Path, target: Path) -> None:
    """Rename `unfinished` to `target`; an earlier preparation is removed only after the new one is there."""
    if not target.exists():
        unfinished.rename(target)
        return
    for readme in filter(_is_readme, target.iterdir()):  # the user's own
        shutil.copy2(readme, unfinished / readme.name)
    # a folder that is not empty cannot be replaced by a rename: for a moment there is none
    earlier = unfinished.with_suffix(".old")
    target.rename(earlier)
    unfinished.rename(target)
    shutil.rmtree(earlier)


def _read_description(file: Path) -> Description:
    if not file.is_file():
        raise DataError(f"is missing: {file.parent} was not made by tamis prepare", file=file)
    contents = file.read_bytes()
    try:
        found = msgspec.json.decode(contents, type=_FormatOnly).format
        if found != FORMAT:
            raise DataError(f"has format {found}; this version of Tamis reads {FORMAT}; {_AGAIN}", file=file)
        return msgspec.json.decode(contents, type=Description)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise DataError(f"cannot be read ({broken}); {_AGAIN}", file=file) from None


def _read_part(folder: Path, name: str, description: Description) -> Dataset:
    file = folder / f"{name}.csv"
    facts = inspect_file(file)
    # edited by hand, a text of the test part may have become one of the training part
    if name not in description.parts or facts.sha256 != description.parts[name].sha256:
        raise DataError(f"was changed since it was made; {_AGAIN}", file=file)
    return _read_rows(facts)


def _read_rows(facts: InspectedFile) -> Dataset:
    with open_table(facts, _WRITTEN, no_progress) as table:
        missing = sorted({*_REQUIRED} - {*table.columns})
        if missing:
            raise DataError(f"has no column {missing[0]!r}; {_AGAIN}", file=facts.path)
        indices = {name: table.columns.index(name) for name in table.columns}
        needed = Needed(indices["label"], indices["text"], tuple(indices.values()))
        cells = [record.cells for record in table.records(needed)]
    column = {name: [row[index] for row in cells] for index, name in enumerate(table.columns)}
    return Dataset(
        texts=column["text"],
        labels=column["label"],
        rows=[int(row) for row in column["row"]],
        sources=column.get("source"),
        groups=column["group"],
    )
