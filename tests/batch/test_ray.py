"""The Ray engine on clusters of several node processes: the bytes of the local engine, also when one dies."""

from __future__ import annotations

import gzip
import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tamis.batch.assemble import OutputTarget
from tamis.batch.inputs import find_inputs
from tamis.batch.pipeline import ScoreProgress, ScoreRun, ScoreSettings, make_job, open_inputs
from tamis.batch.ray import ClusterError, run_on_ray
from tamis.errors import DataError
from tamis.inference.classifier import Classifier
from tests.batch.test_formats import csv_bytes
from tests.support.samples import messages, write_csv
from tests.support.score_runs import digest_of, score_here

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytestmark = [pytest.mark.ray, pytest.mark.alone, pytest.mark.filterwarnings("ignore")]


class RayCluster:
    """A head and one more node, each with one processor; both are processes on this machine."""

    def __init__(self) -> None:
        cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: make test-ray")
        self._cluster: Any = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        self._others: list[Any] = []
        self.address: str = self._cluster.address

    def ensure_two_nodes(self) -> None:
        """Add a node in place of one that was killed."""
        if not self._others:
            self._others.append(self._cluster.add_node(num_cpus=1))

    def kill_node(self) -> None:
        """Kill the processes of the second node."""
        self._cluster.remove_node(self._others.pop(), allow_graceful=False)

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
def two_nodes(cluster: RayCluster) -> RayCluster:
    cluster.ensure_two_nodes()
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


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_killed_node_costs_no_rows(name: str, two_nodes: RayCluster, model: Path, tmp_path: Path) -> None:
    local, on_ray = tmp_path / "local", tmp_path / "ray"
    data = write_csv(messages(6_000, seed=31), tmp_path / "all.csv").read_bytes() + b"ham,\n"
    for folder in (local, on_ray):
        folder.mkdir()
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)
    seen: list[int] = []

    def kill_after_some_parts(progress: ScoreProgress) -> None:
        seen.append(progress.n_rows)
        if len(seen) == 5:
            two_nodes.kill_node()

    n_parts = run(model, on_ray, name, address=two_nodes.address, observe=kill_after_some_parts)
    assert n_parts == len(seen) > 20
    score_here(model, name, folder=local, block_bytes=8_192, scores=True)
    expected = digest_of(local)
    listed = expected.pop("out.parquet.rejected.csv").replace(b"/local/", b"/ray/")
    assert digest_of(on_ray) == {**expected, "out.parquet.rejected.csv": listed}


def test_error_of_a_node_is_raised_as_itself(two_nodes: RayCluster, model: Path, tmp_path: Path) -> None:
    write_csv(messages(4_000, seed=3), tmp_path / "in.csv")
    truncated: list[ScoreProgress] = []

    def truncate_once(progress: ScoreProgress) -> None:
        if not truncated:
            os.truncate(tmp_path / "in.csv", 1_000)
        truncated.append(progress)

    with pytest.raises(DataError, match=r"in\.csv: was (truncated|changed) while it was being read"):
        run(model, tmp_path, "in.csv", address=two_nodes.address, observe=truncate_once)


def test_cluster_that_is_not_there_is_one_line(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
    (tmp_path / "in.csv").write_bytes(csv_bytes())
    with pytest.raises(ClusterError, match=r"^no Ray cluster at 127\.0\.0\.1:9 \(.*\)$"):
        run(model, tmp_path, "in.csv", address="127.0.0.1:9")
