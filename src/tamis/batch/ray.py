"""The Ray engine: the same parts, made by the processes of a cluster.

A block is a task, not a call of a pinned actor, which could not be placed again when its node is gone. Ray
repeats tasks whose process or node is lost; a part that was written is written again with the same bytes. A
process opens the model by reference, once. Every node needs the paths of the model, the output folder and
plain text inputs; other inputs are read by the driver and sent. Plain text of an object store is read by the
nodes; the parts of an output there are sent to the driver, which keeps them.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from tamis.batch.blocks import InputBlock
from tamis.batch.local import WAITING_PER_WORKER
from tamis.batch.scoring import EncodedPart, FinishedPart, ScoreJob, encode_block, score_block, write_part
from tamis.errors import MissingExtraError, TamisError

_RETRIES = 10
_CONNECT_SECONDS = 10
_OBJECT_BYTES = 256 << 20  # of shared memory: nothing but waiting blocks is in it


class ClusterError(TamisError):
    """A Ray cluster that cannot be reached, or that lost a block too often."""


def run_on_ray(
    job: ScoreJob, blocks: Iterator[InputBlock], *, address: str | None, workers: int | None
) -> Generator[FinishedPart, None, None]:
    """Yield parts as they are finished, in any order.

    `address` is that of a running cluster; None starts one on this machine for as long as it takes.
    `workers` are tasks at a time, one per processor of the cluster by default.
    """
    with _connected(address) as ray:
        # SPREAD: by default Ray fills one node before it uses the next
        score = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(_score)
        # pickled once: the same bytes are the key of `_opened` in every process
        reference, running = pickle.dumps(job), []
        for block in blocks:
            running.append(score.remote(reference, block.for_another_machine()))
            limit = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            while len(running) >= limit * (1 + WAITING_PER_WORKER):
                done, running = ray.wait(running)
                yield from _written(job, _results(ray, done))
        while running:
            done, running = ray.wait(running)
            yield from _written(job, _results(ray, done))


def _score(reference: bytes, block: InputBlock) -> FinishedPart | EncodedPart:
    job = _opened(reference)
    return score_block(job, block) if job.is_shared else encode_block(job, block)


def _written(job: ScoreJob, results: Iterator[FinishedPart | EncodedPart]) -> Iterator[FinishedPart]:
    """Yield finished parts; those that were sent are written first."""
    for one in results:
        yield write_part(job, one) if isinstance(one, EncodedPart) else one


@lru_cache(maxsize=1)
def _opened(reference: bytes) -> ScoreJob:
    """Open the job's model; a process does so for the first of its blocks."""
    job = pickle.loads(reference)  # our own, from the driver; its model is a path and a digest
    assert isinstance(job, ScoreJob)
    return job


def _results(ray: Any, done: list[Any]) -> Iterator[FinishedPart | EncodedPart]:
    """Yield results; raise what a task raised as it was raised there."""
    try:
        yield from ray.get(done)
    except ray.exceptions.RayTaskError as failed:
        raise failed.cause from None
    except ray.exceptions.RayError as lost:
        reason = str(lost).partition("\n")[0][:200]
        problem = f"Ray lost a block {_RETRIES} times ({reason}); run the same command again to resume"
        raise ClusterError(problem) from None


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Connect to a cluster, or start one that ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray reports each start to its makers
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtraError("--engine ray", "ray") from None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_BYTES}
    try:
        host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
        # ask first: Ray itself tries for minutes. Only an address with a port can be asked, not `auto`
        if colon and port.isdigit():
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(address=address or "local", **options)
    except (OSError, RuntimeError, ValueError) as failed:
        reason = str(failed).partition("\n")[0][:200]
        raise ClusterError(f"no Ray cluster at {address or 'this machine'} ({reason})") from None
    try:
        yield ray
    finally:
        ray.shutdown()
