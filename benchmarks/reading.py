"""How fast labelled files are read, and how often a legacy encoding is detected.

    python benchmarks/reading.py [--rows 1000000] [--sets ../shared/data/sets]

Rows are made up. Encodings are tried on sentences of the set chat-language, which is not part of the
project; that half is left out, saying so, without it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tamis.data.inspection import inspect_file
from tamis.data.reader import read_dataset
from tamis.errors import DataError

ENCODINGS = {
    "ukrainian": ("cp1251", "koi8-u"),
    "russian": ("cp1251", "koi8-r", "iso8859-5"),
    "chinese": ("gbk",),
    "traditionalchinese": ("big5",),
    "japanese": ("shift_jis", "euc_jp"),
    "korean": ("euc_kr",),
    "german": ("cp1252",),
    "french": ("cp1252",),
    "spanish": ("cp1252", "mac-roman", "cp850"),
    "portuguese": ("cp1252",),
    "italian": ("cp1252",),
    "swedish": ("cp1252",),
    "turkish": ("cp1254",),
    "hebrew": ("cp1255",),
    "persian": ("cp1256",),
}
_SAMPLES = 8


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sets", type=Path, default=Path("../shared/data/sets"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{options.rows:,} rows: format, processor seconds, rows per second")
        for name, content in contents(options.rows):
            file = Path(folder) / name
            file.write_bytes(content)
            started = time.process_time()
            rows = len(read_dataset(file).dataset)
            seconds = time.process_time() - started
            print(f"  {name:12} {seconds:6.2f} {rows / seconds:12,.0f}")
            file.unlink()
        print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB, files included")
        if options.sets.is_dir():
            print("lines of text, encodings detected")
            for lines in (1, 3, 10, 100):
                print(f"  {lines:4} {detected(options.sets / 'chat-language.csv', lines, Path(folder))}")
        else:
            print(f"no sets at {options.sets}: encodings were not tried")


def contents(rows: int) -> Iterator[tuple[str, bytes]]:
    """Yield made-up rows in each text format."""
    rng = random.Random(3)
    words = [f"w{n}" for n in range(5000)]
    examples = [(f"l{n % 20}", " ".join(rng.choices(words, k=rng.randint(5, 25)))) for n in range(rows)]
    csv = "label,text\n" + "".join(f'{label},"{text}, ok"\n' for label, text in examples)
    yield "plain.csv", csv.encode()
    yield "plain.csv.gz", gzip.compress(csv.encode(), 1)
    yield "cp1252.csv", csv.replace("ok", "café").encode("cp1252")
    yield "escaped.csv", csv.replace(", ok", r" \"ok\" she said").encode()
    yield "rows.jsonl", "".join(json.dumps({"label": a, "text": b}) + "\n" for a, b in examples).encode()
    yield "lines.txt", "".join(f"__label__{label} {text}\n" for label, text in examples).encode()


def detected(corpus: Path, lines: int, folder: Path) -> str:
    """Return how many samples of so many lines are decoded as they were encoded."""
    data = read_dataset(corpus).dataset
    by_language: dict[str, list[str]] = defaultdict(list)
    for label, text in zip(data.labels, data.texts, strict=True):
        by_language[label].append(text)
    rng, right, total = random.Random(1), 0, 0
    for language, encodings in ENCODINGS.items():
        for encoding in encodings:
            possible = [text for text in by_language[language] if _encodes(text, encoding)]
            for _ in range(_SAMPLES):
                chosen = rng.sample(possible, min(lines, len(possible)))
                content = "\n".join(f"x,{text}" for text in ["label,text", *chosen]).encode(encoding)
                if not content.isascii():
                    total += 1
                    right += _is_right(content, encoding, folder / "sample.csv")
    return f"{right} of {total}"


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _is_right(content: bytes, encoding: str, file: Path) -> bool:
    file.write_bytes(content)
    try:
        found = inspect_file(file).encoding or ""
        return content.decode(found) == content.decode(encoding)
    except (DataError, UnicodeDecodeError):
        return False


if __name__ == "__main__":
    main()
