"""Each dialect beside the native route, TEI's beside plain FastAPI, V2 beside MLServer, all with one model.

    python benchmarks/dialects.py [--model models/spam | --onnx] [--only V2,MLServer] [--rounds 5]

One service answers all dialects; wrk asks their routes one after another in every round, so that a busy
machine is busy for all of them. Every text is new. What counts is the ratio within a round, of the server's
processor time more than of requests per second. MLServer takes part if `scripts/clients.sh` has installed it.
Tamis logs every text and commits log and cache before it answers; the others keep nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import (
    HERE,
    Server,
    make_model,
    ratio_with_spread,
    run_script,
    start_server,
    tamis_command,
    uvicorn_command,
)

_CONNECTIONS = 16
_MLSERVER = HERE.parent / "build" / "clients" / "mlserver" / "bin" / "python"


@dataclass(frozen=True)
class Candidate:
    """A route, and the body that asks it for the predictions of one or more texts."""

    name: str
    server: Server
    route: str
    body: Any


@dataclass(frozen=True)
class Speed:
    """What one run of wrk measured; `cpu_us` is the server's processor time for one request."""

    requests_per_second: float
    cpu_us: float


def _tensor(texts: Sequence[str]) -> Any:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}


def _candidates(servers: Mapping[str, Server], model: str, n_texts: int) -> list[Candidate]:
    """Return the routes for `n_texts` texts a request, the native one first."""
    tamis = servers["tamis"]
    texts = ["@"] * n_texts
    native = ("/prediction", {"text": "@"}) if n_texts == 1 else ("/predictions", {"texts": texts})
    tei = {"inputs": "@" if n_texts == 1 else [[text] for text in texts]}
    frame = {"columns": ["text"], "data": [[text] for text in texts]}
    bodies = [
        ("native", *native),
        ("V2", f"/v2/models/{model}/infer", _tensor(texts)),
        ("V1", f"/v1/models/{model}:predict", {"instances": texts}),
        ("TEI", "/predict", tei),
        ("Hugging Face", "/hf", {"inputs": "@" if n_texts == 1 else texts}),
        ("MLflow", "/invocations", {"dataframe_split": frame}),
        ("vLLM", "/classify", {"input": texts}),
        ("OpenAI", "/v1/moderations", {"input": texts}),
    ]
    return [
        *(Candidate(name, tamis, route, body) for name, route, body in bodies),
        Candidate("plain FastAPI", servers["plain"], "/predict", tei),
        *(
            Candidate("MLServer", server, f"/v2/models/{model}/infer", _tensor(texts))
            for name, server in servers.items()
            if name == "mlserver"
        ),
    ]


def _speed(candidate: Candidate, seconds: int) -> Speed:
    environ = {"BODY": json.dumps(candidate.body), "ROUTE": candidate.route}
    result, cpu_us = run_script(
        "dialects.lua", candidate.server, _CONNECTIONS, seconds=seconds, environ=environ
    )
    return Speed(result["requests"] / result["seconds"], cpu_us)


def measure(candidates: Sequence[Candidate], *, rounds: int, seconds: int) -> None:
    """Print the speed of each, and its ratios to the first of the same round with their spread."""
    speeds: dict[str, list[Speed]] = defaultdict(list)
    for candidate in candidates:
        _speed(candidate, 1)
    for _ in range(rounds):
        for candidate in candidates:
            speeds[candidate.name].append(_speed(candidate, seconds))
    native = speeds[candidates[0].name]
    for name, own in speeds.items():
        pairs = [*zip(own, native, strict=True)]
        rates = [one.requests_per_second / base.requests_per_second for one, base in pairs]
        times = [base.cpu_us / one.cpu_us for one, base in pairs]
        speed, cpu = (
            statistics.median(getattr(one, field) for one in own)
            for field in ("requests_per_second", "cpu_us")
        )
        ratios = f"{ratio_with_spread(times):>20}{ratio_with_spread(rates):>20}"
        print(f"  {name:14}{speed:11,.0f}{cpu:8,.0f}{ratios}")


def main() -> None:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model; without it a linear one is trained on made-up messages")
    parser.add_argument("--onnx", action="store_true", help="train a network for one epoch instead")
    parser.add_argument("--only", default="", help="names of the candidates beside the native route")
    parser.add_argument("--seconds", type=int, default=2, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as made, ExitStack() as running:
        folder = Path(made)
        options = ("--model", "lstm", "--set", "epochs=1", "--no-refit") if arguments.onnx else ()
        model = arguments.model or make_model(folder, *options)
        patient = {"TAMIS_MAX_QUEUE_SECONDS": "30"}  # the others refuse nothing, however long it waits
        tamis = start_server("tamis", tamis_command(model, folder / "t.db"), **patient)
        servers = {"tamis": running.enter_context(tamis)}
        plain = start_server("plain", uvicorn_command("yardsticks:tei"), TAMIS_MODEL_DIRECTORY=model)
        servers["plain"] = running.enter_context(plain)
        if _MLSERVER.exists():
            servers["mlserver"] = running.enter_context(_start_mlserver(model))
        for n_texts in (1, 32):
            print(f"\n{_CONNECTIONS} connections, {n_texts} new texts per request")
            print(f"  {'':14}{'requests/s':>11}{'CPU µs':>8}{'native CPU / this':>20}{'throughput':>20}")
            candidates = _candidates(servers, Path(model).name, n_texts)
            chosen = [one for one in candidates if one.name in ("native", *arguments.only.split(","))]
            measure(
                chosen if arguments.only else candidates, rounds=arguments.rounds, seconds=arguments.seconds
            )


def _start_mlserver(model: str) -> AbstractContextManager[Server]:
    libraries = os.pathsep.join(path for path in sys.path[1:] if path)
    command = [str(_MLSERVER), str(HERE / "mlserver_runtime.py"), model]
    environ = {"LIBRARIES": libraries, "PYTHONPATH": str(HERE)}
    return start_server("mlserver", command, ready="/v2/health/ready", **environ)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
