"""A real S3 server on 127.0.0.1, and what is in it: moto's, in an environment of its own (`make test-s3`)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ENVIRON

_PYTHON = Path(__file__).parents[2] / "build" / "s3" / "bin" / "python"


class S3Server:
    """A running server; `environ` is what makes every program use it."""

    def __init__(self, port: int, log: Path):
        from pyarrow import fs

        self._log = log
        self.environ = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-tests",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._files: Any = fs.S3FileSystem(
            endpoint_override=self.environ["AWS_ENDPOINT_URL"],
            access_key="tests",
            secret_key="s3cret-of-the-tests",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def create_bucket(self, name: str) -> None:
        self._files.create_dir(name)

    def put(self, key: str, data: bytes) -> None:
        with self._files.open_output_stream(key, compression=None) as file:
            file.write(data)

    def get(self, key: str) -> bytes:
        with self._files.open_input_file(key) as file:
            return bytes(file.read())

    def keys(self, bucket: str) -> list[str]:
        """The objects of a bucket, without its name."""
        from pyarrow import fs

        found = self._files.get_file_info(fs.FileSelector(bucket, recursive=True))
        files = [one.path for one in found if one.type == fs.FileType.File]
        return sorted(path.removeprefix(f"{bucket}/") for path in files)

    def reads_of(self, key: str) -> int:
        """How often the bytes of an object were asked for."""
        return len(re.findall(rf'"[^"]*GET /{re.escape(key)} HTTP', self._log.read_text()))


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start a server; skip where it is not installed."""
    if not _PYTHON.exists():
        pytest.skip("no S3 server is installed: make test-s3")
    log = folder / "s3.log"
    with log.open("wb") as output:
        command = [str(_PYTHON), "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, env=ENVIRON, stdout=output, stderr=output)
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            assert process.poll() is None, log.read_text()
        yield S3Server(int(found[1]), log)
    finally:
        process.kill()
        process.wait()
