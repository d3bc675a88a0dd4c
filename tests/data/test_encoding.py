"""Encodings that are found, named or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.data.inspection import inspect_file
from tamis.data.reader import read_dataset
from tamis.data.tables import ReadOptions
from tamis.errors import DataError

SENTENCES = {
    "ru": [
        "Позвоните сегодня и получите подарок",
        "Увидимся завтра возле библиотеки",
        "Где мои ключи от дома?",
    ],
    "zh": ["请今天回电领取您的奖品", "我们明天在图书馆门口见面", "钥匙放在厨房的桌子上了"],
    "tw": ["請今天回電領取您的獎品", "我們明天在圖書館門口見面", "鑰匙放在廚房的桌子上了"],
    "ja": [
        "今日電話して賞品を受け取ってください",
        "明日図書館の前で会いましょう",
        "鍵はテーブルの上にあります",
    ],
    "ko": ["오늘 전화해서 상품을 받으세요", "내일 도서관 앞에서 만나요", "열쇠는 식탁 위에 있어요"],
    "de": [
        "Rufen Sie heute für Ihre Prämie an",
        "Wir treffen uns später vor der Bücherei",
        "Schöne Grüße aus Köln",
    ],
    "fr": [
        "Appelez aujourd'hui: le cadeau est gagné",
        "À demain près de la bibliothèque",
        "Où est la clé du café ?",
    ],
}


def sample(language: str, rows: int = 30) -> str:
    sentences = SENTENCES[language]
    lines = [f"{'ham' if n % 2 else 'spam'},{sentences[n % len(sentences)]} {n}" for n in range(rows)]
    return "label,text\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("ru", "cp1251"),
        ("ru", "koi8-r"),
        ("zh", "gbk"),
        ("tw", "big5"),
        ("ja", "shift_jis"),
        ("ja", "euc_jp"),
        ("ko", "euc_kr"),
        ("de", "cp1252"),
        ("fr", "cp1252"),
    ],
)
def test_texts_are_right_when_the_encoding_is_detected(tmp_path: Path, language: str, encoding: str) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(sample(language).encode(encoding))
    result = read_dataset(file)
    (tmp_path / "utf8.csv").write_text(sample(language), encoding="utf-8")
    assert result.dataset.texts == read_dataset(tmp_path / "utf8.csv").dataset.texts
    assert len(result.assumed) == 1
    assert f"encoding {result.encoding} (detected, confidence " in result.assumed[0]


def test_encoding_is_found_when_it_shows_late_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    plain = "label,text\n" + "ham,nothing but plain letters here\n" * 60_000
    file.write_bytes(plain.encode() + sample("ru").removeprefix("label,text\n").encode("cp1251"))
    assert inspect_file(file).encoding == "cp1251"


def test_sparse_accents_are_western_when_there_are_few(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes("label,text\nham,Café à 5 €\n".encode("cp1252"))
    result = read_dataset(file)
    assert result.dataset.texts == ["Café à 5 €"]
    assert result.assumed[0].startswith("encoding cp1252 (detected, confidence ")


def test_named_encoding_is_taken_when_given(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes("label,text\nham,žluťoučký kůň\n".encode("cp1250"))
    result = read_dataset(file, ReadOptions(encoding="CP1250"))
    assert (result.dataset.texts, result.assumed) == (["žluťoučký kůň"], ())


def test_unknown_encoding_is_refused_when_named(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("label,text\nham,a\n")
    with pytest.raises(DataError, match="--encoding 'klingon' is not a known encoding"):
        read_dataset(file, ReadOptions(encoding="klingon"))


def test_named_encoding_is_refused_when_bytes_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(b"label,text\nham,ok\nham,caf\xe9\n")
    with pytest.raises(DataError, match="line 3 is not valid utf-8; name the encoding with --encoding"):
        read_dataset(file, ReadOptions(encoding="utf-8"))


def test_damaged_characters_are_replaced_when_the_rest_is_utf8(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    good = sample("ru").encode()
    file.write_bytes(good + b"ham,caf\xe9 \n")
    result = read_dataset(file)
    assert result.encoding == "utf-8"
    assert result.dataset.texts[-1] == "caf\ufffd "
    assert result.assumed == (f"UTF-8 with damaged characters, the first at byte {len(good) + 7}",)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_utf8_is_kept_when_a_character_lies_across_two_reads(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "data.csv"
    header = b"label,text\nham,"
    text = "x" * ((1 << 20) - len(header) - cut) + "東京\n"
    file.write_bytes(header + text.encode())
    assert inspect_file(file).encoding == "utf-8"
