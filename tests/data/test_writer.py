from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.data.reader import read_dataset
from tamis.data.tables import Columns, ReadOptions, atomic_text_file, write_dataset
from tamis.errors import DataError
from tamis.types import Dataset


def test_columns_are_written_when_the_data_set_has_them(tmp_path: Path) -> None:
    plain = Dataset(["Hi, you", 'a "b"'], ["ham", "spam"], [1, 2])
    write_dataset(plain, tmp_path / "plain.csv")
    assert (tmp_path / "plain.csv").read_bytes() == b'label,text\nham,"Hi, you"\nspam,"a ""b"""\n'
    write_dataset(Dataset(["Hi"], ["ham"], [1], ["A"], ["7"]), tmp_path / "full.csv")
    assert (tmp_path / "full.csv").read_bytes() == b"label,text,source,group\nham,Hi,A,7\n"
    write_dataset(Dataset(["Hi"], ["ham"], [1], groups=["7"]), tmp_path / "groups.csv")
    assert (tmp_path / "groups.csv").read_bytes() == b"label,text,group\nham,Hi,7\n"


TEXTS = st.text(
    alphabet=st.one_of(st.sampled_from(list(' ,;\t\r\n"ab\u2028\x85')), st.characters(codec="utf-8"))
)
WITHOUT_NUL = TEXTS.map(lambda text: text.replace("\0", ""))


@settings(max_examples=150, deadline=None)
@given(st.lists(WITHOUT_NUL, min_size=1, max_size=5), st.booleans())
def test_data_set_is_the_same_when_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], grouped: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    labels = ["x-label"] * len(texts)  # no random line starts with it, so nothing is taken for a row
    rows = range(1, len(texts) + 1)
    dataset = Dataset(texts, labels, rows, texts, texts if grouped else None)
    write_dataset(dataset, path)
    result = read_dataset(path, ReadOptions(Columns(group="group" if grouped else None)))
    assert result.dataset == Dataset(texts, labels, rows, texts, texts if grouped else None)


def test_file_is_replaced_whole_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "report.json"
    with atomic_text_file(path) as file:
        file.write("first\r\n")
        assert not path.exists()
    assert path.read_bytes() == b"first\r\n"
    with atomic_text_file(path) as file:
        file.write("second")
        assert path.read_bytes() == b"first\r\n"
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["report.json"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError, ValueError])
def test_old_file_stays_alone_when_the_block_fails(tmp_path: Path, interruption: type[BaseException]) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(interruption), atomic_text_file(path) as file:
        file.write("new")
        raise interruption
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_nothing_is_left_when_the_disk_is_full(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from tamis.data.tables import write_dataset\n"
        "from tamis.types import Dataset\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "write_dataset(Dataset(['text'] * 50_000, ['ham'] * 50_000, range(50_000)), sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.csv"], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 50_000, "the limit was the child's alone"


def test_mode_is_usual_when_file_is_new_and_kept_when_it_is_not(tmp_path: Path) -> None:
    path, ordinary = tmp_path / "a.csv", tmp_path / "ordinary"
    ordinary.touch()
    with atomic_text_file(path):
        pass
    assert path.stat().st_mode == ordinary.stat().st_mode
    path.chmod(0o600)
    with atomic_text_file(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o600


def test_link_stays_a_link_when_its_file_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_text_file(link) as file:
        file.write("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_folder_and_device_refused_when_they_would_be_replaced(tmp_path: Path) -> None:
    for path in (tmp_path, Path(os.devnull)):
        with (
            pytest.raises(DataError, match="not a regular file and will not be replaced"),
            atomic_text_file(path),
        ):
            pass
    assert os.listdir(tmp_path) == []
