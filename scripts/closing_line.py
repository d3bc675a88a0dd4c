"""Print one closing line, as pytest does, for several runs of it: `closing_line.py --seconds 90 LOG...`."""

import argparse
import datetime
import re
from collections import Counter
from pathlib import Path

_CLOSING = re.compile(r"^=+ (\d+ .*) in [\d.]+s(?: \([\d:]+\))? =+$", re.MULTILINE)
_OUTCOMES = ("failed", "passed", "skipped", "xfailed", "xpassed", "errors")


def main() -> None:
    """Add up the counts; a log without a closing line is an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("logs", type=Path, nargs="+")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for log in options.logs:
        closing = _CLOSING.findall(log.read_text("utf-8", errors="replace"))
        for number, outcome in re.findall(r"(\d+) (\w+)", closing[-1] if closing else "1 errors"):
            counts["errors" if outcome == "error" else outcome] += int(number)
    counted = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _OUTCOMES if counts[outcome])
    took = datetime.timedelta(seconds=options.seconds)
    print(f" {counted or 'no tests ran'} in {options.seconds}.00s ({took}) ".center(80, "="))  # noqa: T201


if __name__ == "__main__":
    main()
