"""Time of scoring one text, batches of 32 and a long text, interleaved with another installation.

    python benchmarks/text_latency.py models/spam
    python benchmarks/text_latency.py models/spam --against ../old/.venv/bin/python --its-model old/spam

Every call is timed by itself and the second percentile counts, the smallest of all rounds: on a shared
machine means and totals measure the neighbours. Texts are canonicalized, as in the service, but not cached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

_CHILD = """
import json, random, sys, time
from tamis import Classifier
classifier, random = Classifier.load(sys.argv[1]), random.Random(1)
words = ["".join(random.choices("abcdefghijklmnop", k=random.randint(1, 9))) for _ in range(2000)]
texts = [" ".join(random.choices(words, k=12)).capitalize() + "." for _ in range(64)]
long_text = " ".join(random.choices(texts, k=45))
def microseconds(texts, calls):
    taken = []
    for _ in range(calls):
        started = time.perf_counter_ns()
        classifier.probabilities(texts)
        taken.append(time.perf_counter_ns() - started)
    return sorted(taken)[calls // 50] / 1000
print(json.dumps({
    "one text": microseconds(texts[:1], 4000),
    "32 texts": microseconds(texts[:32], 600),
    "3,000 characters": microseconds([long_text], 400),
}))
"""


def main() -> None:
    """Run the rounds and print a row for each kind of text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--against", help="the Python of another installation")
    parser.add_argument("--its-model", help="the model that the other one scores with; the same by default")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sides = {"this": (sys.executable, options.model)}
    if options.against:
        sides["other"] = (options.against, options.its_model or options.model)
    best: dict[str, dict[str, float]] = {side: {} for side in sides}
    for _ in range(options.rounds):
        for side, (python, model) in sides.items():
            for kind, found in _round(python, model).items():
                best[side][kind] = min(found, best[side].get(kind, found))
    for kind, this in best["this"].items():
        other = best.get("other", {}).get(kind)
        print(
            f"{kind:18} {this:8.1f} µs"
            + (f"   other {other:8.1f} µs   ratio {this / other:.2f}" if other else "")
        )


def _round(python: str, model: str) -> dict[str, float]:
    run = subprocess.run([python, "-c", _CHILD, model], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(run.stdout)
    return found


if __name__ == "__main__":
    main()
