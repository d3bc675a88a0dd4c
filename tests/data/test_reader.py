from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tamis.data.reader import ReadResult, read_dataset, require_classes
from tamis.data.tables import Columns, ReadOptions
from tamis.errors import DataError
from tamis.types import Dataset


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mail.csv"


def read(file: Path, content: str | bytes, columns: Columns | None = None, **options: bool) -> ReadResult:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_dataset(file, ReadOptions(columns or Columns()), **options)


def refusal(file: Path, content: str | bytes, columns: Columns | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(file, content, columns)
    message = str(caught.value)
    assert message.startswith(str(file)), "the message names the file"
    assert "\n" not in message
    return message.removeprefix(str(file))


def test_columns_are_read_when_file_is_plain(file: Path) -> None:
    content = "source,text,label\nA,Hello,ham\nB,WIN,spam\n"
    result = read(file, content)
    assert list(result.dataset.texts) == ["Hello", "WIN"]
    assert list(result.dataset.labels) == ["ham", "spam"]
    assert result.dataset.sources == ["A", "B"]
    assert result.dataset.groups is None
    assert list(result.dataset.rows) == [1, 2]
    assert (result.paths, result.encoding, result.delimiter) == ((file,), "utf-8", ",")
    assert result.header == ("source", "text", "label")
    assert result.rows_as_read == 2
    assert result.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert result.assumed == ()


def test_named_columns_are_read_when_they_have_other_names(file: Path) -> None:
    columns = Columns(label="v1", text="v2", source="site", group="thread")
    result = read(file, "v1,v2,site,thread\nham,Hello,A,7\nspam,WIN,B,8\n", columns)
    assert result.dataset[1].label == "spam"
    assert result.dataset.sources == ["A", "B"]
    assert result.dataset.groups == ["7", "8"]


def test_sources_are_none_when_file_has_no_such_column(file: Path) -> None:
    assert read(file, "label,text\nham,Hello\n").dataset.sources is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_accents_survive_when_encoding_is(file: Path, encoding: str) -> None:
    result = read(file, "label,text\nham,Café à 5 €\n".encode(encoding))
    assert result.dataset.texts == ["Café à 5 €"]
    assert result.encoding == encoding


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf16_is_read_in_either_byte_order_when_marked(file: Path, codec: str) -> None:
    assert read(file, "\ufefflabel,text\nham,naïve 東京\n".encode(codec)).dataset.texts == ["naïve 東京"]


def test_utf8_is_kept_when_a_character_lies_across_two_reads(file: Path) -> None:
    text = "é" * 700_000  # the file is examined a mebibyte at a time, and the header makes it odd
    result = read(file, f"label,text\nham,{text}\n")
    assert result.encoding == "utf-8"
    assert result.dataset.texts == [text]


def test_equal_labels_are_one_string_when_read(file: Path) -> None:
    labels = read(file, "label,text\nham,a\nspam,b\nham,c\n").dataset.labels
    assert labels[0] is labels[2], "millions of rows would otherwise hold millions of copies"


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_delimiter_is_found_when_header_uses_it(file: Path, delimiter: str) -> None:
    result = read(file, f'label{delimiter}text\nham{delimiter}"a, b; c\td"\n')
    assert result.delimiter == delimiter
    assert result.dataset.texts == ["a, b; c\td"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_rows_are_read_when_line_ends_are(file: Path, line_end: str) -> None:
    content = f'label,text{line_end}ham,"two{line_end}lines"{line_end}spam,WIN{line_end}'
    assert read(file, content).dataset.texts == [f"two{line_end}lines", "WIN"]


def test_blank_lines_are_skipped_when_they_stand_anywhere(file: Path) -> None:
    result = read(file, "\n\nlabel,text\n\nham,Hello\n   \n\nspam,WIN\n\n")
    assert list(result.dataset.rows) == [1, 2]


def test_last_row_is_read_when_no_line_end_follows(file: Path) -> None:
    assert read(file, 'label,text\nham,"Hello"').dataset.texts == ["Hello"]


def test_empty_texts_are_kept_when_there_are_any(file: Path) -> None:
    assert read(file, "label,text\nham,\nspam,WIN\n").dataset.texts == ["", "WIN"]


def test_field_is_read_when_it_is_larger_than_csv_module_allows(file: Path) -> None:
    text = "x" * 200_000
    assert read(file, f"label,text\nham,{text}\n").dataset.texts == [text]


def test_unnamed_columns_are_ignored_when_there_are_several(file: Path) -> None:
    assert read(file, "label,text,,,\nham,Hello,,,\n").dataset.texts == ["Hello"]


def test_quotes_inside_a_text_are_kept_when_text_is_not_quoted(file: Path) -> None:
    assert read(file, 'label,text\nham,He said "no"\n').dataset.texts == ['He said "no"']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": is empty; its first line must name the columns"),
        ("\n \n", ": is empty; its first line must name the columns"),
        ("label,text\n", ": has a header and no rows"),
        (
            "label,text\nham,a\n\nspam\n",
            ", row 2, column 'text': this cell is missing: the row has 1 of 2 (line 4 of the file)",
        ),
        (
            'label,text\nham,"a\nb"\nham,c,d\n',
            ", row 2, column 'text': the row has 3 cells, the header 2; a text that holds the delimiter or a "
            "quote must be quoted (line 4 of the file)",
        ),
        (
            "label,text\n ,a\nham,b\n,c\n",
            ", row 1, column 'label': 2 rows have no label (the first on line 2); add them, or use "
            "--skip-unlabelled",
        ),
        (
            'label,text\nham,a\nspam,"b\nham,c\n',
            ", row 2, column 'text': a quote opens here and is never closed; double it (line 3 of the file)",
        ),
        ("label,text,text\nham,a,b\n", ", column 'text': the header names this column twice; rename one"),
        (
            "label\tnote\tremark\nham\ta\tb\n",
            ": has no column 'text'; it has 'label', 'note', 'remark'; name the right one with --text-column",
        ),
        (b"a\0b\0", ": is binary, not text: byte 1 is NUL; save it as CSV in UTF-8"),
        (
            "\ufefflabel,text\nham,a".encode("utf-16-le") + b"\n",
            ": line 2 is not valid utf-16-le; name the encoding with --encoding",
        ),
    ],
)
def test_file_is_refused_with_the_place_when_broken(file: Path, content: str | bytes, message: str) -> None:
    assert refusal(file, content) == message


def test_missing_group_column_is_refused_when_it_was_named(file: Path) -> None:
    message = refusal(file, "label,text,threads\nham,a,1\n", Columns(group="thread"))
    assert message.endswith("did you mean --group-column 'threads'?")


def test_same_column_twice_is_refused_when_asked_for(file: Path) -> None:
    assert "the same column" in refusal(file, "a,b\n1,2\n", Columns(label="a", text="a"))


def test_missing_file_is_refused_when_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: cannot be read: No such file or directory$"):
        read_dataset(tmp_path / "nothing.csv")


def test_folder_is_refused_when_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, not a data file$"):
        read_dataset(tmp_path)


def test_device_is_refused_when_read() -> None:
    with pytest.raises(DataError, match="is not a regular file"):
        read_dataset(os.devnull)


def test_one_class_is_refused_only_when_classes_are_required(file: Path) -> None:
    dataset = read(file, "label,text\nham,a\nham,b\n").dataset
    with pytest.raises(DataError, match=r"mail\.csv: has only the class 'ham'; at least two"):
        require_classes(dataset, file)
    with pytest.raises(DataError, match="column 'v1': has no class"):
        require_classes(Dataset([], [], []), file, column="v1")


def test_two_classes_are_accepted_when_classes_are_required(file: Path) -> None:
    require_classes(read(file, "label,text\nham,a\nspam,b\n").dataset, file)


def test_progress_ends_at_the_size_of_the_file_when_done(file: Path) -> None:
    calls: list[tuple[int, int]] = []
    file.write_text("label,text\n" + "ham,Hello there\n" * 5000)
    read_dataset(file, progress=lambda done, total: calls.append((done, total)))
    size = file.stat().st_size
    assert calls[-1] == (size, size)
    assert len(calls) == 6
    assert calls == sorted(calls), "progress never goes back"


def test_swallowed_rows_are_split_with_their_cells_when_repaired(file: Path) -> None:
    content = 'label,text,source,thread\nspam,WIN,A,1\nham,"Hello\nspam\tNOW\nham\tok",B,2\nham,Bye,C,3\n'
    columns = Columns(group="thread")
    result = read(file, content, columns)
    dataset = result.dataset
    assert list(dataset.texts) == ["WIN", "Hello", "NOW", "ok", "Bye"]
    assert list(dataset.labels) == ["spam", "ham", "spam", "ham", "ham"]
    assert list(dataset.rows) == [1, 2, 2, 2, 3]
    assert dataset.sources == ["A", "B", "B", "B", "C"]
    assert dataset.groups == ["1", "2", "2", "2", "3"]
    assert result.rows_as_read == 3
    assert result.assumed == ("2 rows recovered from row 2, after an unescaped quote",)
    assert len(read(file, content, columns, repair=False).dataset) == 3


def test_labels_are_named_as_in_swallowed_rows_when_column_tells(file: Path) -> None:
    result = read(file, 'spam,text\n1,WIN\n0,"Hello\nspam\tNOW\nham\tok"\n', Columns(label="spam"))
    assert list(result.dataset.labels) == ["spam", "ham", "spam", "ham"]
    assert result.label_words == {"0": "ham", "1": "spam"}
    assert result.assumed[0] == "labels renamed as in the recovered rows: '0' to 'ham', '1' to 'spam'"


def test_field_is_reported_and_left_when_its_layout_is_unknown(file: Path) -> None:
    text = "Look\n1,Ann,nice,0\n2,Bob,bad,0\n"
    result = read(file, f'label,text\nham,"{text}"\nspam,WIN\n')
    assert list(result.dataset.texts) == [text, "WIN"]
    assert result.assumed == ("the text of row 1 left as it is, although it looks like several rows",)


def test_mixed_csv_has_its_known_counts_when_read(shared_data: Path) -> None:
    path = shared_data / "spam-dataset.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        as_csv = list(csv.DictReader(stream))
    plain = read_dataset(path, repair=False)
    assert list(plain.dataset.texts) == [row["text"] for row in as_csv]
    assert len(plain.dataset) == plain.rows_as_read == 7528
    repaired = read_dataset(path)
    assert len(repaired.dataset) == 7530
    assert [field.recovered for field in repaired.swallowed] == [2, 0]
    kinds = Counter(zip(repaired.dataset.sources or (), repaired.dataset.labels, strict=True))
    assert kinds["sms-spam", "ham"] == 4827
    assert kinds["sms-spam", "spam"] == 747


_PEAK = """
import resource, sys
from tamis.data.reader import read_dataset
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dataset = read_dataset(sys.argv[1]).dataset
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(grown / sum(map(sys.getsizeof, dataset.texts)), len(dataset))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB only on Linux")
def test_large_file_is_not_held_twice_when_read(file: Path) -> None:
    rows = 150_000
    with file.open("w") as stream:
        stream.write("label,text,source\n")
        for number in range(rows):
            label, source = ("spam", "A") if number % 3 else ("ham", "B")
            stream.write(f"{label},{number} {'some words of a message ' * 8},{source}\n")
    done = subprocess.run([sys.executable, "-c", _PEAK, file], capture_output=True, text=True, check=True)
    ratio, read_rows = done.stdout.split()
    assert int(read_rows) == rows
    assert float(ratio) < 1.5, "texts once, and little beside them"
