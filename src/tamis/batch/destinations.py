"""Destinations of finished files: a path, or an object of a store.

A file is first written completely beside the parts, so a destination never has half of one.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

from tamis.batch.object_store import delete_object, is_url, list_objects, object_exists, upload


class Destination(ABC):
    """The place of one output file; `name` is as the user gave it."""

    name: str

    @abstractmethod
    def exists(self) -> bool:
        """Return whether a file is there."""

    @abstractmethod
    def publish(self, finished: Path) -> None:
        """Move a finished file there, in place of another."""

    @abstractmethod
    def remove(self) -> None:
        """Delete the file, if there is one."""


class LocalDestination(Destination):
    """A path on the file system that the parts are on."""

    def __init__(self, path: Path):
        self.path, self.name = path, str(path)

    def exists(self) -> bool:
        """Return whether the path exists, also as a folder."""
        return self.path.exists()

    def publish(self, finished: Path) -> None:
        """Rename the file, once its bytes are on the disk."""
        # or a loss of power could leave the name with no bytes
        with finished.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(finished, self.path)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


class ObjectDestination(Destination):
    """An object; the store shows it when its upload is complete."""

    def __init__(self, url: str):
        self.name = url

    def exists(self) -> bool:
        """Return whether the object exists."""
        return object_exists(self.name)

    def publish(self, finished: Path) -> None:
        """Upload the file and delete it here."""
        upload(finished, self.name)
        finished.unlink()

    def remove(self) -> None:
        """Delete the object."""
        delete_object(self.name)


def destination_of(name: str | Path) -> Destination:
    """Return the destination that a path or a URL names."""
    return ObjectDestination(str(name)) if is_url(str(name)) else LocalDestination(Path(name))


class ObjectFolder:
    """A prefix that parts are uploaded to; `url` ends with a slash."""

    def __init__(self, url: str):
        self.url = url

    def parts(self) -> list[str]:
        """Return the parts that are there, of whichever run."""
        start = f"{self.url}part-"
        return [one for one in list_objects(self.url) if one.startswith(start)]

    def add(self, file: Path, name: str | None = None) -> None:
        """Upload a file of the run, which is kept here too until the run is complete."""
        upload(file, f"{self.url}{name or file.name}")

    def clear(self) -> None:
        """Delete `_run.json`, which marks the parts as complete, then all parts."""
        for url in [f"{self.url}_run.json", *self.parts()]:
            delete_object(url)
