"""Measures Tamis beside an empty FastAPI endpoint and plain FastAPI with the same model.

    python benchmarks/serving.py [--model models/spam] [--lstm models/lstm] [--seconds 3] [--rounds 5]
    python benchmarks/serving.py --before OLD/.venv/bin/python --model MODEL  # of OLD: two versions of Tamis

All servers run at once, one process each, and wrk asks one after another in every round, so that a
busy machine is busy for all of them; what counts is the ratio to the empty endpoint within a round.
Tamis logs every text and commits log and cache before it answers, as it always does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from tests.support.process_stats import cpu_seconds, family_mb
from tests.support.samples import messages, write_csv

HERE = Path(__file__).parent
READY_SECONDS = 60


@dataclass(frozen=True)
class Load:
    """What wrk does: `texts_each` texts a request, 1 being a single one."""

    name: str
    connections: int
    fresh: bool
    texts_each: int


LOADS = (
    Load("32 connections, every text new", 32, fresh=True, texts_each=1),
    Load("32 connections, texts repeated", 32, fresh=False, texts_each=1),
    Load("1 connection, every text new", 1, fresh=True, texts_each=1),
    Load("1 connection, texts repeated", 1, fresh=False, texts_each=1),
    Load("8 connections, lists of 32, every text new", 8, fresh=True, texts_each=32),
    Load("8 connections, lists of 32, texts repeated", 8, fresh=False, texts_each=32),
)


@dataclass(frozen=True)
class Result:
    """What one run of wrk measured."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Processor time of the server for one request: what a busy machine falsifies least."""
    requests: int


@dataclass(frozen=True)
class Server:
    """A process that answers."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    ready_seconds: float

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used."""
        return cpu_seconds(self.process.pid)

    def memory_mb(self) -> float:
        """Return the proportional memory of the process and its children."""
        return family_mb(self.process.pid)


def _environment() -> dict[str, str]:
    """Return ours without PYTHONPATH, which would have every interpreter run this tree's Tamis."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@contextmanager
def start_server(name: str, command: Sequence[str], *, ready: str = "/", **environ: str) -> Iterator[Server]:
    """Start a server and wait until it answers at the path `ready`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env=_environment() | environ,
        stderr=said,
    )
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() - began > READY_SECONDS:
                said.seek(0)
                raise SystemExit(f"{name} does not start: {said.read().decode()}")
            time.sleep(0.005)
        yield Server(name, process, port, time.monotonic() - began)
    finally:
        process.terminate()
        process.wait()


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, or too busy yet
        return False


def uvicorn_command(app: str) -> list[str]:
    """Return the command that serves one of the yardsticks."""
    options = [
        "--factory",
        "--app-dir",
        str(HERE),
        "--http",
        "httptools",
        "--loop",
        "uvloop",
        "--no-access-log",
        "--log-level",
        "error",
    ]
    return [sys.executable, "-m", "uvicorn", app, *options]


def tamis_command(model: str, store: Path, python: str = sys.executable) -> list[str]:
    """Return the command that serves a model with a log at `store`, by the Tamis of an interpreter."""
    return [python, "-m", "tamis", "serve", model, "--store", f"sqlite:///{store}"]


def run_wrk(server: Server, load: Load, texts: Path, seconds: int) -> Result:
    """Send requests to a server for some seconds."""
    environ = {
        "TEXTS": str(texts),
        "LIST": str(load.texts_each if load.texts_each > 1 else 0),
        "FRESH": str(int(load.fresh)),
    }
    result, cpu_us = run_script("requests.lua", server, load.connections, seconds=seconds, environ=environ)
    return Result(
        result["requests"] / result["seconds"], result["p50_ms"], result["p99_ms"], cpu_us, result["requests"]
    )


def run_script(
    script: str, server: Server, connections: int, *, seconds: int, environ: Mapping[str, str]
) -> tuple[dict[str, Any], float]:
    """Have wrk send the requests of a script; return what it reports, and the server's CPU µs per request."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "9s", "-s", str(HERE / script)]
    cpu_before = server.cpu_seconds()
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}"],
        env=os.environ | environ | {"RUN": f"{time.time_ns():x} "},
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.rpartition("RESULT ")[2])
    if result["failed"]:
        raise SystemExit(f"{server.name} failed {result['failed']} of {result['requests']} requests")
    return result, (server.cpu_seconds() - cpu_before) / result["requests"] * 1e6


def measure(
    servers: Sequence[Server], loads: Sequence[Load], texts: Path, *, rounds: int, seconds: int
) -> None:
    """Print a table for each load; the first server is what the others are compared with."""
    for load in loads:
        results: dict[str, list[Result]] = defaultdict(list)
        for server in servers:
            run_wrk(server, load, texts, 1)
        for _ in range(rounds):
            for server in servers:
                results[server.name].append(run_wrk(server, load, texts, seconds))
        print(f"\n{load.name}")
        print(f"  {'':14}{'requests/s':>11}{'texts/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'CPU µs':>8}"
              f"{'throughput':>19}{'1 / CPU':>18}{'p50':>18}{'p99':>18}")  # fmt: skip
        for server in servers:
            _print_row(server.name, results[server.name], results[servers[0].name], load)


def _print_row(name: str, own: Sequence[Result], base: Sequence[Result], load: Load) -> None:
    """Print medians, and the ratios to the first server of the same round with their spread."""
    speed, p50, p99, cpu = (
        statistics.median(values)
        for values in zip(*((r.requests_per_second, r.p50_ms, r.p99_ms, r.cpu_us) for r in own), strict=True)
    )
    pairs = [*zip(own, base, strict=True)]
    ratios = [
        ratio_with_spread([a.requests_per_second / b.requests_per_second for a, b in pairs]),
        ratio_with_spread([b.cpu_us / a.cpu_us for a, b in pairs]),
        ratio_with_spread([a.p50_ms / b.p50_ms for a, b in pairs]),
        ratio_with_spread([a.p99_ms / b.p99_ms for a, b in pairs]),
    ]
    print(f"  {name:14}{speed:11,.0f}{speed * load.texts_each:9,.0f}{p50:8.2f}{p99:8.2f}{cpu:8.0f}"
          f"{ratios[0]:>19}{ratios[1]:>18}{ratios[2]:>18}{ratios[3]:>18}")  # fmt: skip


def ratio_with_spread(ratios: Sequence[float]) -> str:
    """Return the median of ratios with the smallest and the largest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def make_texts(folder: Path) -> Path:
    """Write a thousand texts that need no escaping in JSON, a line each; return the file."""
    texts = [text.replace('"', "'").replace("\\", "/") for text in messages(1_000).texts]
    path = folder / "texts.txt"
    path.write_text("\n".join(texts), "utf-8")
    return path


def make_model(folder: Path, *options: str) -> str:
    """Train a model on made-up messages, a linear one without `options`, and return its folder."""
    data = write_csv(messages(2_000), folder / "messages.csv")
    model = folder / "models" / "spam"
    subprocess.run(
        [sys.executable, "-m", "tamis", "train", str(data), "-o", str(model), *options],
        check=True,
        capture_output=True,
    )
    return str(model)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a linear model; without it one is trained on made-up messages")
    parser.add_argument("--lstm", help="a network to measure too")
    parser.add_argument("--before", help="interpreter of another Tamis: it replaces the empty endpoint")
    parser.add_argument("--seconds", type=int, default=3, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="only the loads whose name contains this")
    return parser.parse_args()


def _yardstick(before: str | None, model: str, folder: Path) -> AbstractContextManager[Server]:
    if before is None:
        return start_server("empty", uvicorn_command("yardsticks:empty"))
    return start_server("before", tamis_command(model, folder / "before.db", before))


def main() -> None:
    """Start the servers, measure, print."""
    arguments = _arguments()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as made, ExitStack() as running:
        folder = Path(made)
        texts = make_texts(folder)
        models = {"linear": arguments.model or make_model(folder)}
        if arguments.lstm:
            models["lstm"] = arguments.lstm
        servers = [running.enter_context(_yardstick(arguments.before, models["linear"], folder))]
        for kind, model in models.items():
            plain = start_server(
                f"plain {kind}", uvicorn_command("yardsticks:plain"), TAMIS_MODEL_DIRECTORY=model
            )
            servers.append(running.enter_context(plain))
            tamis = start_server(f"tamis {kind}", tamis_command(model, folder / f"{kind}.db"))
            servers.append(running.enter_context(tamis))
        loads = [load for load in LOADS if arguments.only in load.name]
        measure(servers, loads, texts, rounds=arguments.rounds, seconds=arguments.seconds)
        print(f"\n{'':18}{'start to ready':>16}{'memory':>12}")
        for server in servers:
            print(f"  {server.name:16}{server.ready_seconds:14.2f} s{server.memory_mb():9.0f} MB")


if __name__ == "__main__":
    main()
