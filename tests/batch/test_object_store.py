"""s3:// in and out on a real server: the bytes of a run on files, also when the run is killed."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.support.processes import ENVIRON, waiting_for
from tests.support.s3_server import S3Server, s3_server
from tests.support.samples import messages, write_csv
from tests.support.score_runs import COMMAND, digest_of, score

pytestmark = pytest.mark.s3

SMALL = ("--workers", "1", "--part-size", "8kB")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def bucket(server: S3Server, request: pytest.FixtureRequest) -> str:
    """A bucket for this test alone."""
    name = f"b{abs(hash(request.node.nodeid))}"
    server.create_bucket(name)
    return name


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    """A CSV file with one row that is rejected."""
    path = tmp_path / "made.csv"
    found = write_csv(messages(3_000, seed=41), path).read_bytes() + b"ham,\n"
    path.unlink()
    return found


def run(server: S3Server, *arguments: str, folder: Path) -> str:
    """Run `tamis score` against the server, which must succeed, and return its messages."""
    found = started(server, *arguments, folder=folder)
    _, said = found.communicate()
    assert found.returncode == 0, said.decode()
    return said.decode()


def failing(server: S3Server, *arguments: str, folder: Path) -> str:
    """Run `tamis score`, which must fail in one line, and return it."""
    found = started(server, *arguments, folder=folder)
    *_, last = found.communicate()[1].decode().splitlines()
    assert found.returncode == 1
    assert last.startswith("tamis: ")
    return last


def started(server: S3Server, *arguments: str, folder: Path) -> subprocess.Popen[bytes]:
    environ = ENVIRON | server.environ
    return subprocess.Popen([*COMMAND, *arguments], cwd=folder, env=environ, stderr=subprocess.PIPE)


def as_parquet(data: bytes) -> bytes:
    rows = [line.split(",") for line in data.decode().splitlines()[1:] if line.count(",") == 1]
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.table({"label": [row[0] for row in rows], "text": [row[1] for row in rows]})
    parquet.write_table(table, sink, row_group_size=100)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("name", "output"),
    [("in.csv", "out.parquet"), ("in.csv.gz", "out.csv.gz"), ("in.parquet", "out.jsonl")],
)
def test_objects_give_the_bytes_of_files(
    name: str, output: str, server: S3Server, bucket: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    contents = {"in.csv": data, "in.csv.gz": gzip.compress(data), "in.parquet": as_parquet(data)}[name]
    server.put(f"{bucket}/mail/{name}", contents)
    (tmp_path / name).write_bytes(contents)
    said = run(server, str(model), f"s3://{bucket}/mail/{name}", "-o", f"s3://{bucket}/{output}", *SMALL,
               folder=tmp_path)  # fmt: skip
    assert f"written to s3://{bucket}/{output}" in said
    assert [file.name for file in tmp_path.iterdir()] == [name], "parts are left behind"
    assert score(str(model), name, "-o", output, *SMALL, folder=tmp_path).returncode == 0
    assert server.get(f"{bucket}/{output}") == (tmp_path / output).read_bytes()
    if name != "in.parquet":
        listed = server.get(f"{bucket}/{output}.rejected.csv").decode()
        assert listed == f"file,row,reason\ns3://{bucket}/mail/{name},3001,no text\n"


def test_prefix_and_glob_name_objects_once(
    server: S3Server, bucket: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    head, *rows = data.decode().splitlines(keepends=True)
    names = ["in/a.csv", "in/deep/b b.csv", "in/deep/c.csv.gz", "in/_no.csv", "in/deep/readme.md"]
    for number, name in enumerate(names):
        part = (head + "".join(rows[number * 100 : number * 100 + 100])).encode()
        server.put(f"{bucket}/{name}", gzip.compress(part) if name.endswith("gz") else part)
    for inputs in ([f"s3://{bucket}/in/"], [f"s3://{bucket}/in/**/*.c*", f"s3://{bucket}/in"]):
        run(server, str(model), *inputs, "-o", f"s3://{bucket}/in/out.csv", "--restart", folder=tmp_path)
        found = server.get(f"{bucket}/in/out.csv").decode().splitlines()
        assert len(found) == 301, inputs


def test_folder_of_objects_has_the_parts_of_a_folder(
    server: S3Server, bucket: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    server.put(f"{bucket}/scored/part-000999.parquet", b"of another run")
    arguments = (str(model), "in.csv", "-o", f"s3://{bucket}/scored/", *SMALL)
    assert "holds parts already; give --restart" in failing(server, *arguments, folder=tmp_path)
    run(server, *arguments, "--restart", folder=tmp_path)
    assert score(str(model), "in.csv", "-o", "scored/", *SMALL, folder=tmp_path).returncode == 0
    local = digest_of(tmp_path / "scored")
    assert server.keys(bucket) == sorted(f"scored/{name}" for name in local)
    assert len(local) > 10
    for name, contents in local.items():
        if name != "_run.json":
            assert server.get(f"{bucket}/scored/{name}") == contents


def test_killed_run_goes_on_to_the_same_object(
    server: S3Server, bucket: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    server.put(f"{bucket}/in.csv", data)
    arguments = (str(model), f"s3://{bucket}/in.csv", "-o", f"s3://{bucket}/out.parquet", *SMALL)
    journal = tmp_path / "out.parquet.parts" / "_parts.jsonl"
    process = started(server, *arguments, folder=tmp_path)
    for _ in waiting_for(process):
        if journal.exists() and journal.read_bytes().count(b"\n") >= 3:
            break
    process.kill()
    process.communicate()
    assert server.keys(bucket) == ["in.csv"]
    elsewhere = (*arguments[:3], f"s3://{bucket}/other/out.parquet", *SMALL)
    assert "differs in setting target" in failing(server, *elsewhere, folder=tmp_path)
    assert "by an earlier run" in run(server, *arguments, folder=tmp_path)
    whole = server.get(f"{bucket}/out.parquet")
    assert "exists already; give --restart" in failing(server, *arguments, folder=tmp_path)
    run(server, *arguments, "--restart", folder=tmp_path)
    assert server.get(f"{bucket}/out.parquet") == whole


def test_failed_upload_is_one_line_and_resumable(
    server: S3Server, data: bytes, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    arguments = (str(model), "in.csv", "-o", "s3://created-later/out.csv", *SMALL)
    said = failing(server, *arguments, folder=tmp_path)
    assert "s3://created-later/out.csv" in said
    assert "run again to go on" in said
    server.create_bucket("created-later")
    assert "3,001 rows (3,001 by an earlier run)" in run(server, *arguments, folder=tmp_path)
    assert server.get("created-later/out.csv").count(b"\n") == 3_001


def test_object_replaced_during_a_run_is_refused(
    server: S3Server, bucket: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    server.put(f"{bucket}/in.csv", data)
    process = started(
        server, str(model), f"s3://{bucket}/in.csv", "-o", f"s3://{bucket}/out.csv", *SMALL, folder=tmp_path
    )
    for _ in waiting_for(process):
        if (tmp_path / "out.csv.parts" / "_parts.jsonl").exists():
            server.put(f"{bucket}/in.csv", data.replace(b"ham,\n", b"ham,x\n"))
            break
    said = process.communicate()[1].decode()
    assert process.returncode == 1
    assert f"s3://{bucket}/in.csv: was changed while it was being read" in said
    assert server.keys(bucket) == ["in.csv"]


def test_ray_reads_objects_where_it_scores_them(
    server: S3Server, bucket: str, data: bytes, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    server.put(f"{bucket}/in.csv", data)
    arguments = (str(model), f"s3://{bucket}/in.csv", "--part-size", "8kB")
    run(server, *arguments, "-o", f"s3://{bucket}/local.parquet", folder=tmp_path)
    assert server.reads_of(f"{bucket}/in.csv") == 1
    run(server, *arguments, "-o", f"s3://{bucket}/ray.parquet", "--engine", "ray", folder=tmp_path)
    assert server.reads_of(f"{bucket}/in.csv") > 10
    assert server.get(f"{bucket}/ray.parquet") == server.get(f"{bucket}/local.parquet")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:hunter2@bucket/in.csv", "s3://…: credentials in a URL are not accepted"),
        ("gs://bucket/in.csv", "gs://bucket/in.csv: is no URL of an object store that is supported"),
        ("s3://nowhere/in.csv", "s3://nowhere/in.csv: no such object"),
        ("s3://nowhere/in/*.csv", "s3://nowhere/in/*.csv: no such object"),
    ],
)
def test_url_that_cannot_be_read_is_one_line(
    url: str, message: str, server: S3Server, model: Path, tmp_path: Path
) -> None:
    said = failing(server, str(model), url, "-o", "out.csv", folder=tmp_path)
    assert said.startswith(f"tamis: {message}")
    assert "hunter2" not in said
