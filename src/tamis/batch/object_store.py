"""Objects of an S3-compatible store: found, copied, read in ranges, uploaded.

Credentials, region and endpoint come from the environment, as for every AWS tool (`AWS_ACCESS_KEY_ID`,
`AWS_REGION`, `AWS_ENDPOINT_URL`). Knows URLs and bytes; does not know rows.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import pyarrow
from pyarrow import fs

from tamis.errors import DataError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_URL = re.compile(r"s3://([a-z0-9][a-z0-9._-]*)/(.*)", re.DOTALL)
_COPY_BYTES = 4 << 20


def is_url(name: str) -> bool:
    """Return whether a name is that of an object, not of a file."""
    return _SCHEME.match(name) is not None


class ObjectState(NamedTuple):
    """What changes when an object is replaced."""

    url: str
    size: int
    etag: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Ask the store."""
        with _named(url), _open_object(url) as file:
            return cls(url, file.size(), file.metadata().get("ETag", b"").decode())

    def check_unchanged(self) -> None:
        """Raise DataError if the object was replaced or deleted since it was inspected."""
        # also deleted: `of` would report that as an error of the store
        if not object_exists(self.url) or ObjectState.of(self.url) != self:
            raise DataError("was changed while it was being read; run again with --restart", file=self.url)

    def download(self, path: Path) -> None:
        """Copy the object to a file; raise DataError if it is replaced meanwhile."""
        with _named(self.url), _open_object(self.url) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        self.check_unchanged()


def read_range(url: str, offset: int, length: int) -> bytes:
    """Return bytes of an object, fewer if it is shorter."""
    with _named(url), _open_object(url) as file:
        # seeking beyond the end is an error; reading there gives nothing
        file.seek(min(offset, file.size()))
        return bytes(file.read(length))


def upload(path: Path, url: str) -> None:
    """Copy a file to an object, which appears complete or not at all."""
    store, key = _store_of(url)
    # Without compression=None, pyarrow compresses what is named .gz once more.
    with _named(url), path.open("rb") as file, store.open_output_stream(key, compression=None) as target:
        shutil.copyfileobj(file, target, _COPY_BYTES)


def object_exists(url: str) -> bool:
    """Return whether there is such an object."""
    store, key = _store_of(url)
    with _named(url):
        return bool(store.get_file_info(key).type == fs.FileType.File)


def delete_object(url: str) -> None:
    """Delete an object, if there is one."""
    # deleting a missing object is an error
    if object_exists(url):
        store, key = _store_of(url)
        with _named(url):
            store.delete_file(key)


def list_objects(url: str) -> list[str]:
    """Return the URLs of all objects under a prefix that ends with a slash, in alphabetical order."""
    store, key = _store_of(url)
    selector = fs.FileSelector(key.rstrip("/"), allow_not_found=True, recursive=True)
    with _named(url):
        found = store.get_file_info(selector)
    return sorted(f"s3://{one.path}" for one in found if one.type == fs.FileType.File)


def find_objects(url: str) -> list[str]:
    """Return the objects that a URL, a prefix or a glob (`*`, `?`, `**`) stands for; a prefix gives all."""
    bucket, key = _parsed(url)
    magic = re.search(r"[*?]", key)
    if magic is None:
        return [url] if key and not key.endswith("/") and object_exists(url) else list_objects(f"{url}/")
    prefix = key[: key.rfind("/", 0, magic.start()) + 1]
    pieces: Sequence[str] = re.split(r"(\*\*/|\*\*|\*|\?)", key)
    expression = "".join(_WILDCARDS.get(piece) or re.escape(piece) for piece in pieces)
    pattern = re.compile(f"s3://{re.escape(bucket)}/{expression}", re.DOTALL)
    return [one for one in list_objects(f"s3://{bucket}/{prefix}") if pattern.fullmatch(one)]


_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _parsed(url: str) -> tuple[str, str]:
    """Return bucket and key; raise DataError for anything but a plain S3 URL."""
    if "@" in url.partition("://")[2].partition("/")[0]:  # the message must not repeat a secret
        problem = "credentials in a URL are not accepted; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise DataError(problem, file="s3://…")
    found = _URL.fullmatch(url)
    if found is None:
        raise DataError("is no URL of an object store that is supported; use s3://BUCKET/KEY", file=url)
    return found[1], found[2]


def _store_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    bucket, key = _parsed(url)
    with _named(url):
        # a key may hold any character, a URI may not
        store, _ = fs.FileSystem.from_uri(f"s3://{bucket}/{quote(key)}")
    return store, f"{bucket}/{key}"


def _open_object(url: str) -> Any:
    store, key = _store_of(url)
    return store.open_input_file(key)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Turn what the store reports into one line that names the object."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such object", file=url) from None
    except (OSError, pyarrow.ArrowException) as failed:
        reason = " ".join(str(failed).split())[:300]
        raise DataError(f"the object store reports: {reason}; run again to go on", file=url) from None
