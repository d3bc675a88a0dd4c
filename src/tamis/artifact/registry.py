"""The versions of a model, the aliases that point at them, and the history of every change.

`NAME/aliases.json` maps an alias to a version; `NAME/history.jsonl` has one line for each change. A change is
written to the history first: after a crash between the two, the alias still points at the version before.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tamis.artifact.manifest import ALIASES_FILE, MANIFEST_FILE, versions_in, write_json
from tamis.artifact.version_folder import find_version, open_artifact, read_aliases
from tamis.clock import Clock, SystemClock
from tamis.errors import ArtifactError

HISTORY_FILE = "history.jsonl"
# not the lock of training: an alias can be moved while the next version is being trained
_LOCK = ".aliases.lock"
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class AliasChange(msgspec.Struct, frozen=True):
    """One line of the history: who moved which alias, when, from and to which version, and why.

    The actions `canary`, `shadow`, `stop canary` and `stop shadow` have an empty alias.
    """

    time: str
    # the key that history files of earlier versions have
    actor: str = msgspec.field(name="who")
    """A user of the operating system, a caller of the service, or `tamis serve`."""
    action: str
    alias: str
    from_version: int | None
    to_version: int
    digest: str
    """The identity of the version that the alias points at since."""
    reason: str = ""


def find_models(references: Sequence[str]) -> list[str]:
    """Return the models that the arguments of `tamis serve` name: models, and folders of models."""
    found: list[str] = []
    for reference in references:
        folder = Path(reference)
        if folder.is_dir() and not versions_in(folder) and not (folder / MANIFEST_FILE).exists():
            # the first model is the default, so the order must not depend on the file system
            models = [str(path) for path in sorted(folder.iterdir()) if path.is_dir() and versions_in(path)]
            if not models:
                raise ArtifactError(f"{reference}: no model is in this folder; train one with `tamis train`")
            found += models
        else:
            found.append(reference)
    return found


def list_versions(model_folder: Path) -> dict[int, list[str]]:
    """Return the versions of a model, ascending, each with its aliases."""
    aliases = read_aliases(model_folder)
    return {
        version: sorted(alias for alias, target in aliases.items() if target == version)
        for version in versions_in(model_folder)
    }


def set_alias(
    reference: str, alias: str, *, actor: str = "", reason: str = "", clock: Clock | None = None
) -> Path:
    """Point `alias` (such as `champion`) at the version that `reference` names; return its folder."""
    if not _ALIAS.fullmatch(alias):
        raise ArtifactError(
            f"{alias!r} is not a valid alias; use a letter, then letters, digits, - and _, 64 at most"
        )
    # verified: an alias must not be moved to a version that cannot be loaded
    artifact = open_artifact(reference)
    folder, version = artifact.path.parent, artifact.path.name
    if not version.isdigit():
        raise ArtifactError(f"{artifact.path} is not a version of a model; aliases need NAME/VERSION")
    with locked(folder):
        before = read_aliases(folder).get(alias)
        change = AliasChange(
            _now(clock), actor or _user(), "promote", alias, before, int(version), artifact.identity, reason
        )
        _apply(folder, change)
    return artifact.path


def rollback(
    model_folder: Path, alias: str, *, actor: str = "", reason: str = "", clock: Clock | None = None
) -> Path:
    """Point `alias` at the version before the current one; return its folder."""
    with locked(model_folder):
        current = read_aliases(model_folder).get(alias)
        if current is None:
            raise ArtifactError(f"{model_folder.name} has no alias {alias!r}; see `tamis models list`")
        previous = _version_before(history(model_folder), alias, current)
        if previous is None:
            raise ArtifactError(
                f"{model_folder.name}@{alias} has no earlier version in {HISTORY_FILE}; "
                "promote the one you want with `tamis models promote`"
            )
        artifact = open_artifact(f"{model_folder}@{previous}")
        change = AliasChange(
            _now(clock), actor or _user(), "rollback", alias, current, previous, artifact.identity, reason
        )
        _apply(model_folder, change)
    return artifact.path


def history(model_folder: Path) -> list[AliasChange]:
    """Return every change of the model's aliases, oldest first; a torn last line is left out."""
    path = model_folder / HISTORY_FILE
    changes = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            changes.append(msgspec.json.decode(line, type=AliasChange))
        except msgspec.MsgspecError:  # the line of a process that was killed while it wrote
            continue
    return changes


def promoted_digest(model_folder: Path, version: int) -> str | None:
    """Return the identity that `version` had when an alias was last moved to it; None if none was."""
    # lines about a canary or a shadow have no alias, and approve nothing
    changes = [change for change in history(model_folder) if change.alias]
    digests = [change.digest for change in changes if change.to_version == version]
    return digests[-1] if digests else None


def remove_version(reference: str) -> Path:
    """Delete the version that `reference` names, unless an alias points at it; return the folder it was."""
    path = find_version(reference)
    pointing = list_versions(path.parent).get(int(path.name) if path.name.isdigit() else -1)
    if pointing is None:
        raise ArtifactError(f"{path} is not a version of a model")
    # or services that follow the alias could not start again
    if pointing:
        raise ArtifactError(f"{path} is {pointing[0]!r}; promote another version to {pointing[0]!r} first")
    shutil.rmtree(path)
    return path


def _version_before(changes: list[AliasChange], alias: str, current: int) -> int | None:
    """Return where `alias` pointed before: promotions push a version, rollbacks pop one."""
    versions: list[int] = []
    for change in changes:
        if change.alias != alias:
            continue
        if change.from_version is not None and (not versions or versions[-1] != change.from_version):
            versions.append(change.from_version)  # the change before was not completed, or is not recorded
        # a rollback undoes a promotion: a second one goes further back, not forth again
        if change.action == "rollback" and len(versions) > 1 and versions[-2] == change.to_version:
            versions.pop()
        elif not versions or versions[-1] != change.to_version:
            versions.append(change.to_version)
    while versions and versions[-1] != current:
        versions.pop()
    earlier = [version for version in versions if version != current]
    return earlier[-1] if earlier else None


def record_traffic(folder: Path, action: str, version: int, *, actor: str, reason: str, digest: str) -> None:
    """Add a line about a canary or a shadow to the history; the caller holds the lock of the folder."""
    _record(folder, AliasChange(_now(None), actor or _user(), action, "", None, version, digest, reason))


def _apply(folder: Path, change: AliasChange) -> None:
    _record(folder, change)
    aliases = read_aliases(folder) | {change.alias: change.to_version}
    write_json(folder / ALIASES_FILE, dict(sorted(aliases.items())))


def _record(folder: Path, change: AliasChange) -> None:
    with (folder / HISTORY_FILE).open("ab") as file:
        if file.tell() and not (folder / HISTORY_FILE).read_bytes().endswith(b"\n"):
            file.write(b"\n")  # ends the torn line of a process that was killed
        file.write(msgspec.json.encode(change) + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a model's folder: one process changes it at a time."""
    with (folder / _LOCK).open("wb") as lock:
        # waits: changes take milliseconds
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return str(os.getuid())


def _now(clock: Clock | None) -> str:
    seconds = (clock or SystemClock()).utc_ns() / 1e9
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
