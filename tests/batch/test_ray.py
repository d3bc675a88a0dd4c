"""The Ray engine on clusters of several node processes: the bytes of the local engine, also when one dies."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from tamis.batch.assemble import OutputTarget
from tamis.batch.inputs import find_inputs
from tamis.batch.pipeline import ScoreProgress, ScoreRun, ScoreSettings, make_job, open_inputs
from tamis.batch.ray import ClusterError, run_on_ray
from tamis.errors import DataError
from tamis.inference.classifier import Classifier
from tests.batch.test_formats import csv_bytes
from tests.support.process_stats import children_of
from tests.support.processes import ENVIRON, waiting_for
from tests.support.samples import messages, write_csv
from tests.support.score_runs import COMMAND, digest_of, read_output, score, score_here

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytestmark = [pytest.mark.ray, pytest.mark.alone, pytest.mark.filterwarnings("ignore")]


ACROSS_NODES = ("--engine", "ray", "--part-size", "8kB", "--scores")


class RayCluster:
    """A head and two more nodes, each with one processor; all are processes on this machine."""

    def __init__(self) -> None:
        cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: make test-ray")
        self._cluster: Any = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        self._others: list[Any] = []
        self.address: str = self._cluster.address

    def ensure_three_nodes(self) -> None:
        """Add nodes in place of those that were killed."""
        while len(self._others) < 2:
            self._others.append(self._cluster.add_node(num_cpus=1))

    def kill_node(self) -> None:
        """Kill the processes of the last node."""
        self._cluster.remove_node(self._others.pop(), allow_graceful=False)

    def kill_scoring_process(self) -> bool:
        """Kill one process that is scoring a block, with its model; its node lives on."""
        for node in self._cluster.list_all_nodes():
            for raylet in node.all_processes["raylet"]:
                for pid in children_of(raylet.process.pid):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_score"):
                        os.kill(pid, signal.SIGKILL)
                        return True
        return False

    def shut_down(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = RayCluster()
    yield found
    found.shut_down()


@pytest.fixture
def nodes(cluster: RayCluster) -> RayCluster:
    cluster.ensure_three_nodes()
    return cluster


def run(model: Path, folder: Path, name: str, *, address: str, observe: Any = lambda progress: None) -> int:
    target = OutputTarget.of(str(folder / "out.parquet"))
    settings = ScoreSettings(block_bytes=8_192, scores=True)
    sources = open_inputs(find_inputs([str(folder / name)]), settings)
    job = make_job(Classifier.load(model), sources, target, settings)
    summary = ScoreRun(job, sources, target, settings).run(
        partial(run_on_ray, address=address, workers=None), observe=observe
    )
    return summary.n_parts


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("in.csv", "node"),
        ("in.csv.gz", "process"),
        pytest.param("in.csv.gz", "node", marks=pytest.mark.soak),
        pytest.param("in.csv", "process", marks=pytest.mark.soak),
    ],
)
def test_what_is_killed_costs_no_rows(
    name: str, loss: str, nodes: RayCluster, model: Path, tmp_path: Path
) -> None:
    local, on_ray = tmp_path / "local", tmp_path / "ray"
    data = write_csv(messages(6_000, seed=31), tmp_path / "all.csv").read_bytes() + b"ham,\n"
    for folder in (local, on_ray):
        folder.mkdir()
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)
    seen: list[int] = []
    killed: list[bool] = []

    def kill_after_some_parts(progress: ScoreProgress) -> None:
        seen.append(progress.n_rows)
        if len(seen) < 5 or any(killed):
            return
        if loss == "node":
            nodes.kill_node()
        killed.append(loss == "node" or nodes.kill_scoring_process())

    n_parts = run(model, on_ray, name, address=nodes.address, observe=kill_after_some_parts)
    assert n_parts == len(seen) > 20
    assert killed[-1], "nothing was killed"
    score_here(model, name, folder=local, block_bytes=8_192, scores=True)
    expected = digest_of(local)
    listed = expected.pop("out.parquet.rejected.csv").replace(b"/local/", b"/ray/")
    assert digest_of(on_ray) == {**expected, "out.parquet.rejected.csv": listed}


def ray_arguments(nodes: RayCluster | None) -> tuple[str, ...]:
    return (*ACROSS_NODES, *(("--ray-address", nodes.address) if nodes else ()))


def test_command_on_a_cluster_writes_the_local_bytes(nodes: RayCluster, model: Path, tmp_path: Path) -> None:
    write_csv(messages(3_000, seed=33), tmp_path / "in.csv")
    for output in ("ray.parquet", "ray.csv.gz"):
        found = score(str(model), "in.csv", "-o", output, *ray_arguments(nodes), folder=tmp_path)
        assert found.returncode == 0, found.stderr.decode()
        local = output.replace("ray", "local")
        score(str(model), "in.csv", "-o", local, "--part-size", "8kB", "--scores", folder=tmp_path)
        assert (tmp_path / output).read_bytes() == (tmp_path / local).read_bytes()


def test_folder_of_a_cluster_has_the_local_rows(nodes: RayCluster, model: Path, tmp_path: Path) -> None:
    write_csv(messages(3_000, seed=34), tmp_path / "in.csv")
    found = score(str(model), "in.csv", "-o", "ray/", *ray_arguments(nodes), folder=tmp_path)
    assert found.returncode == 0, found.stderr.decode()
    local, _ = score_here(model, "in.csv", folder=tmp_path, scores=True)
    parts = sorted((tmp_path / "ray").glob("part-*.parquet"))
    assert len(parts) > 20
    whole = pyarrow.concat_tables([read_output(part) for part in parts])
    assert whole.equals(local.replace_schema_metadata(whole.schema.metadata))


def test_command_starts_a_cluster_of_its_own(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    write_csv(messages(1_000, seed=35), tmp_path / "in.csv")
    found = score(str(model), "in.csv", "-o", "ray.parquet", *ray_arguments(None), folder=tmp_path)
    assert found.returncode == 0, found.stderr.decode()
    score_here(model, "in.csv", folder=tmp_path, output="local.parquet", block_bytes=8_000, scores=True)
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()


def test_killed_driver_is_resumed_by_the_other_engine(nodes: RayCluster, model: Path, tmp_path: Path) -> None:
    write_csv(messages(12_000, seed=36), tmp_path / "in.csv")
    arguments = [str(model), "in.csv", "-o", "out.parquet", *ray_arguments(nodes)]
    journal = tmp_path / "out.parquet.parts" / "_parts.jsonl"
    driver = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=ENVIRON, stderr=subprocess.DEVNULL)
    for _ in waiting_for(driver):
        if journal.exists() and journal.read_bytes().count(b"\n") >= 3:
            break
    driver.kill()
    driver.wait()
    assert not (tmp_path / "out.parquet").exists()
    found = score(
        str(model), "in.csv", "-o", "out.parquet", "--part-size", "8kB", "--scores", folder=tmp_path
    )
    assert b"by an earlier run" in found.stderr
    score_here(model, "in.csv", folder=tmp_path, output="whole.parquet", block_bytes=8_000, scores=True)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_error_of_a_node_is_raised_as_itself(nodes: RayCluster, model: Path, tmp_path: Path) -> None:
    write_csv(messages(4_000, seed=3), tmp_path / "in.csv")
    truncated: list[ScoreProgress] = []

    def truncate_once(progress: ScoreProgress) -> None:
        if not truncated:
            os.truncate(tmp_path / "in.csv", 1_000)
        truncated.append(progress)

    with pytest.raises(DataError, match=r"in\.csv: was (truncated|changed) while it was being read"):
        run(model, tmp_path, "in.csv", address=nodes.address, observe=truncate_once)


def test_cluster_that_is_not_there_is_one_line(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    (tmp_path / "in.csv").write_bytes(csv_bytes())
    with pytest.raises(ClusterError, match=r"^no Ray cluster at 127\.0\.0\.1:9 \(.*\)$"):
        run(model, tmp_path, "in.csv", address="127.0.0.1:9")
