"""What a key looks like, and what tells a typo."""

from __future__ import annotations

import re
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.service.security.api_keys import hash_of, is_well_formed, new_key

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_keys_are_well_formed_and_differ() -> None:
    keys = {new_key() for _ in range(1_000)}
    assert len(keys) == 1_000
    assert all(re.fullmatch(r"tamis_[0-9A-Za-z]{36}", key) and is_well_formed(key) for key in keys)


def test_every_character_of_the_alphabet_is_used() -> None:
    assert set("".join(new_key()[6:36] for _ in range(200))) == set(ALPHABET)


def test_key_checksum_is_the_crc_of_secret_scanners() -> None:
    key = new_key()
    value = 0
    for digit in key[36:]:
        value = value * 62 + ALPHABET.index(digit)
    assert value == zlib.crc32(key[:36].encode())


@given(place=st.integers(6, 41), other=st.sampled_from(ALPHABET))
@settings(max_examples=300, deadline=None)
def test_one_wrong_character_is_a_typo(place: int, other: str) -> None:
    key = new_key()
    mistyped = key[:place] + other + key[place + 1 :]
    assert is_well_formed(mistyped) == (mistyped == key)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_text_is_no_key(text: str) -> None:
    assert not is_well_formed(text)
    assert not is_well_formed(new_key() + text + "\n")


def test_the_hash_tells_keys_apart() -> None:
    key = new_key()
    assert hash_of(key) == hash_of(key) != hash_of(new_key())
    assert re.fullmatch("[0-9a-f]{64}", hash_of(key))
