"""Requests per second of each dialect beside the native route, and TEI's beside plain FastAPI.

    python benchmarks/dialects.py [--model models/spam] [--seconds 2] [--rounds 5]

One service answers all dialects; wrk asks their routes one after another in every round, so that a busy
machine is busy for all of them. Every text is new. What counts is the ratio within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import HERE, Server, make_model, ratio_with_spread, start_server, tamis_command, uvicorn_command

_CONNECTIONS = 16


@dataclass(frozen=True)
class Candidate:
    """A route, and the body that asks it for the predictions of one or more texts."""

    name: str
    server: Server
    route: str
    body: Any


def _tensor(texts: Sequence[str]) -> Any:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}


def _candidates(tamis: Server, plain: Server, model: str, n_texts: int) -> list[Candidate]:
    """Return the routes for `n_texts` texts a request, the native one first."""
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
        Candidate("plain FastAPI", plain, "/predict", tei),
    ]


def _requests_per_second(candidate: Candidate, seconds: int) -> float:
    environ = {
        "BODY": json.dumps(candidate.body),
        "ROUTE": candidate.route,
        "RUN": f"{time.time_ns():x} ",
    }
    done = subprocess.run(
        ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "dialects.lua")]
        + [f"http://127.0.0.1:{candidate.server.port}"],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.rpartition("RESULT ")[2])
    if result["failed"]:
        raise SystemExit(f"{candidate.name} failed {result['failed']} of {result['requests']} requests")
    return float(result["requests"] / result["seconds"])


def measure(candidates: Sequence[Candidate], *, rounds: int, seconds: int) -> None:
    """Print the requests per second of each, and its ratio to the first of the same round with the spread."""
    speeds: dict[str, list[float]] = defaultdict(list)
    for candidate in candidates:
        _requests_per_second(candidate, 1)
    for _ in range(rounds):
        for candidate in candidates:
            speeds[candidate.name].append(_requests_per_second(candidate, seconds))
    native = speeds[candidates[0].name]
    for name, own in speeds.items():
        ratios = [one / base for one, base in zip(own, native, strict=True)]
        print(f"  {name:14}{statistics.median(own):10,.0f}{ratio_with_spread(ratios):>20}")


def main() -> None:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model; without it a linear one is trained on made-up messages")
    parser.add_argument("--seconds", type=int, default=2, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = arguments.model or make_model(folder)
        plain_server = start_server("plain", uvicorn_command("yardsticks:tei"), TAMIS_MODEL_DIRECTORY=model)
        with plain_server as plain, start_server("tamis", tamis_command(model, folder / "t.db")) as tamis:
            for n_texts in (1, 32):
                print(f"\n{_CONNECTIONS} connections, {n_texts} new texts per request")
                print(f"  {'':14}{'requests/s':>10}{'ratio to native':>20}")
                candidates = _candidates(tamis, plain, Path(model).name, n_texts)
                measure(candidates, rounds=arguments.rounds, seconds=arguments.seconds)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
