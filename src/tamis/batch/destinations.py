"""Destinations of finished files: a path, or an object of a store.

A file is first written completely beside the parts, so a destination never has half of one.
"""

from __future__ import annotations

import os
from pathlib import Path

from tamis.batch.object_store import delete_object, is_url, list_objects, object_exists, upload


class Destination:
    """The place of one output file.

    name: as the user gave it
    path: on the file system that the parts are on; None for an object
    """

    def __init__(self, name: str | Path):
        self.name = str(name)
        self.path = None if is_url(self.name) else Path(name)

    def exists(self) -> bool:
        """Return whether a file, an object or a folder is there."""
        return object_exists(self.name) if self.path is None else self.path.exists()

    def publish(self, finished: Path) -> None:
        """Move a finished file there, in place of another."""
        if self.path is None:
            upload(finished, self.name)  # the store shows an object when its upload is complete
            finished.unlink()
            return
        # or a loss of power could leave the name with no bytes
        with finished.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(finished, self.path)

    def remove(self) -> None:
        """Delete the file or object, if there is one."""
        if self.path is None:
            delete_object(self.name)
        else:
            self.path.unlink(missing_ok=True)


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
