"""The local engine: worker processes on this machine, each with its own copy of the model.

    blocks ─► three per worker submitted, at most ─► a process: parse, score, write the part ─► finished part

Blocks wait in a queue that is as long as the memory allows, so reading never runs ahead of scoring.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.abc import MetaPathFinder
from threading import Thread

import pyarrow

from tamis.batch.blocks import InputBlock
from tamis.batch.scoring import FinishedPart, ScoreJob, score_block
from tamis.errors import TamisError

PROCESS_BYTES = 150 << 20
"""Memory of a Python process with numpy, pyarrow and a model of usual size."""

BLOCK_COPIES = 12
"""Bytes that a worker needs at most for each byte of a block: its text, columns, scores and encoded part."""

WAITING_PER_WORKER = 2  # blocks, so that a worker need not wait for the reading process
_job: ScoreJob | None = None


class WorkerDiedError(TamisError):
    """A worker process was killed, usually because memory ran out."""


def workers_within(memory_bytes: int, block_bytes: int, cores: int) -> int:
    """Return how many workers fit into the memory beside the reading process, at most one per core, or 0."""
    reader = PROCESS_BYTES + 3 * block_bytes  # bytes not yet cut, the copy that is searched, the cut block
    each = PROCESS_BYTES + (BLOCK_COPIES + WAITING_PER_WORKER) * block_bytes
    return max(0, min(cores, (memory_bytes - reader) // each))


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


class _NoPandas(MetaPathFinder):
    """An import hook under which pandas is not found; other modules are left to the next finder."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raise ModuleNotFoundError for pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError(name=fullname)


def without_pandas() -> None:
    """Make pyarrow treat pandas as not installed, in this process.

    It would import pandas to tell data frames from lists, which takes half a second per process. It checks
    only once, at the first conversion.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pyarrow.scalar(0)
    finally:
        sys.meta_path.remove(finder)


def run_locally(
    job: ScoreJob, blocks: Iterator[InputBlock], workers: int
) -> Generator[FinishedPart, None, None]:
    """Yield parts as they are finished, in any order; stop the workers when the caller stops.

    A single worker is this process.
    """
    if workers == 1:
        yield from (score_block(job, block) for block in blocks)
        return
    pool = ProcessPoolExecutor(
        # spawn: a fork would copy the locks of Arrow's and numpy's threads
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(job,),
    )
    running: set[Future[FinishedPart]] = set()
    try:
        for block in blocks:
            running.add(pool.submit(_score, block))
            # bounds the blocks in memory: reading waits for scoring
            if len(running) >= workers * (1 + WAITING_PER_WORKER):
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (part.result() for part in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (part.result() for part in done)
    except BrokenProcessPool:
        problem = (
            "a worker process was killed, perhaps for want of memory; run the same command again to resume"
        )
        raise WorkerDiedError(f"{problem}, with fewer --workers or less --max-memory") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(job: ScoreJob) -> None:
    """Keep the job, whose model was opened when it was unpickled, and end with the parent."""
    global _job
    _job = job
    without_pandas()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    Thread(target=_end_with_parent, name="tamis-parent", daemon=True).start()


# a parent that is killed cannot stop its workers, which would wait for blocks for ever
def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # `sys.exit` would end this thread only
        os._exit(1)


def _score(block: InputBlock) -> FinishedPart:
    assert _job is not None
    return score_block(_job, block)
