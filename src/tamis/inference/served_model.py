"""A model of a service, and one loaded version of it: classifier and batcher, swapped as one object.

A request holds a reference from its first line to its last: it is answered by one version, and a version that
was replaced is freed after its last request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tamis.artifact import open_artifact, promoted_digest, read_aliases
from tamis.artifact.manifest import ALIASES_FILE, MANIFEST_FILE, FileStamp, file_stamp
from tamis.clock import Clock
from tamis.errors import ArtifactError
from tamis.events import Events
from tamis.inference.batcher import Batcher
from tamis.inference.classifier import Classifier


# eq=False: two loads of one version are two objects, and only identity tells them apart
@dataclass(eq=False, slots=True)
class ServedModel:
    """A loaded version with everything that belongs to it."""

    classifier: Classifier
    batcher: Batcher
    size_bytes: int = 0
    """The size of its files: what it takes in memory, roughly."""
    last_used: float = 0.0

    @property
    def name(self) -> str:
        """The model's name."""
        return self.classifier.name

    @property
    def version(self) -> str:
        """The version, such as `3`."""
        return self.classifier.version

    @property
    def digest(self) -> str:
        """The identity of the version: its cache keys and log rows carry it."""
        return self.classifier.identity


@dataclass(frozen=True)
class ModelLoader:
    """Loads versions: checksums first, then the identity that was promoted, then the self-test."""

    clock: Clock
    max_queue_seconds: float
    events: Events

    def load(self, reference: str) -> ServedModel:
        """Return the version that `reference` names; raises ArtifactError with the cause."""
        artifact = open_artifact(reference)
        version = artifact.path.name
        # files that were replaced after the promotion must not be served under its approval
        promoted = promoted_digest(artifact.path.parent, int(version)) if version.isdigit() else None
        if promoted not in (None, artifact.identity):
            raise ArtifactError(
                f"{artifact.path}: its manifest is not the one that was promoted; promote the version again "
                "if the change is intended"
            )
        classifier = Classifier.from_artifact(artifact)  # with its self-test
        size = sum(facts.size_bytes for facts in artifact.manifest.files.values())
        return self.serve(classifier, size_bytes=size)

    def serve(self, classifier: Classifier, *, size_bytes: int = 0) -> ServedModel:
        """Return a classifier with its batcher."""
        batcher = Batcher(
            classifier, self.clock, max_queue_seconds=self.max_queue_seconds, events=self.events
        )
        return ServedModel(classifier, batcher, size_bytes)


@dataclass(eq=False)
class Entry:
    """One model of the service. `selector` is the version or alias that it serves; empty is the newest."""

    name: str
    folder: Path | None
    selector: str
    current: ServedModel | None = None
    loaded: dict[str, ServedModel] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    """Why a version could not be loaded, by version; the key of the served selector is `current`."""
    aliases: dict[str, int] = field(default_factory=dict)
    stamp: FileStamp | None = None

    def read_aliases(self) -> None:
        """Take over the aliases of the folder, if there is one."""
        if self.folder is not None:
            # before reading: a change in between is seen at the next look
            stamp = file_stamp(self.folder / ALIASES_FILE)
            self.aliases, self.stamp = read_aliases(self.folder), stamp


def entry_of(reference: str) -> Entry:
    """Return the model at `NAME`, `NAME@VERSION`, `NAME@ALIAS` or a version's folder; nothing is loaded."""
    path = Path(reference)
    if path.exists() and (path / MANIFEST_FILE).exists():
        # the name of the folder is that of the model, which `.` and a link do not have
        path = path.resolve()
        return Entry(path.parent.name, path.parent, path.name)
    # an existing path may contain an @ itself
    base, _, selector = (reference, "", "") if path.exists() else reference.rpartition("@")
    if not base:
        base, selector = reference, ""
    folder = Path(base).resolve()
    entry = Entry(folder.name, folder, selector)
    entry.read_aliases()
    return entry
