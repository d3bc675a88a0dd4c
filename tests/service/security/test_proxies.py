"""Which address is believed: spellings, walks through proxies, and what a stranger may write."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis.service.security.proxies import TrustedProxies

PROXY, INNER_PROXY, STRANGER = "10.0.0.1", "10.0.0.2", "203.0.113.9"
OURS = TrustedProxies("10.0.0.0/24, fd00::/8, unix")


def _client(proxies: TrustedProxies, peer: str | None, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return proxies.client(
        {"type": "http", "client": None if peer is None else (peer, 5_000), "headers": headers}
    )


@pytest.mark.parametrize("peer", [STRANGER, "::1", "127.0.0.1", PROXY])
def test_the_header_is_not_read_when_no_proxy_is_listed(peer: str) -> None:
    assert _client(TrustedProxies(), peer, "192.0.2.1") == peer


def test_the_header_is_not_read_when_the_peer_is_no_listed_proxy() -> None:
    assert _client(OURS, STRANGER, "192.0.2.1") == STRANGER


def test_caller_behind_a_proxy_is_the_rightmost_unlisted_entry() -> None:
    assert _client(OURS, PROXY, f"192.0.2.1, {STRANGER}") == STRANGER
    assert _client(OURS, PROXY, f"192.0.2.1, {STRANGER}, {INNER_PROXY}") == STRANGER


def test_several_headers_are_one_list_when_proxies_add_their_own() -> None:
    assert _client(OURS, PROXY, "192.0.2.1", STRANGER, INNER_PROXY) == STRANGER


def test_caller_behind_proxies_only_is_the_first_entry() -> None:
    assert _client(OURS, PROXY, "10.0.0.7, 10.0.0.8") == "10.0.0.7"


def test_the_proxy_itself_is_the_caller_when_it_says_nothing() -> None:
    assert _client(OURS, PROXY) == _client(OURS, PROXY, "") == PROXY


@pytest.mark.parametrize(
    "word",
    ["unknown", "_hidden", "1.2.3", "1.2.3.4.5", "[1.2.3.4]", "[::1", "::1]", "1.2.3.4:", "1.2.3.4:x"]
    + [
        "[::1]:",
        "[::1]x",
        "1.2.3.4:123456",
        "010.1.1.1",
        "é",
        "\x00",
        "x" * 5_000,
        ",",
        "-1",
        "1.2.3.4 5.6.7.8",
    ],
)
def test_caller_before_an_invalid_entry_is_the_last_valid_one(word: str) -> None:
    assert _client(OURS, PROXY, f"192.0.2.1,{word}") == PROXY
    assert _client(OURS, PROXY, f"192.0.2.1,{word},{INNER_PROXY}") == INNER_PROXY


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.9", STRANGER),
        (" 203.0.113.9\t", STRANGER),
        ("203.0.113.9:443", STRANGER),
        ("::ffff:203.0.113.9", STRANGER),
        ("[::ffff:203.0.113.9]:443", STRANGER),
        ("::FFFF:CB00:7109", STRANGER),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:65535", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_has_one_name_however_it_is_written(written: str, address: str) -> None:
    assert _client(OURS, PROXY, written) == address


@pytest.mark.parametrize(
    ("peer", "name"),
    [("::ffff:203.0.113.9", STRANGER), ("fe80::1%eth0", "fe80::1"), ("2001:DB8::1", "2001:db8::1")],
)
def test_a_peer_has_the_same_name_as_behind_a_proxy(peer: str, name: str) -> None:
    assert _client(OURS, peer) == name


def test_proxy_mapped_into_ipv6_is_known() -> None:
    assert _client(OURS, f"::ffff:{PROXY}", STRANGER) == STRANGER


def test_a_unix_socket_is_believed_only_when_it_is_listed() -> None:
    assert _client(OURS, None, STRANGER) == STRANGER
    assert _client(OURS, None) == "unix:"
    assert _client(TrustedProxies("10.0.0.0/24"), None, STRANGER) == "unix:"


def test_a_peer_without_an_address_keeps_its_word() -> None:
    assert _client(OURS, "testclient", STRANGER) == "testclient"


def test_a_long_walk_through_trusted_addresses_is_cut_off() -> None:
    assert _client(OURS, PROXY, ",".join([STRANGER, *["10.0.0.7"] * 10_000])) == "10.0.0.7"


@given(forged=st.lists(st.text(st.characters(max_codepoint=255), max_size=80), max_size=5))
@example(forged=[f"{INNER_PROXY},{PROXY}"])
@settings(max_examples=300, deadline=None)
def test_nothing_a_stranger_writes_changes_its_address(forged: list[str]) -> None:
    assert _client(OURS, PROXY, *forged, STRANGER) == STRANGER
    assert _client(OURS, PROXY, f"{','.join(forged)}, {STRANGER}, {INNER_PROXY}") == STRANGER


@given(header=st.text(st.characters(max_codepoint=255)))
@settings(max_examples=300, deadline=None)
def test_any_header_gives_an_address(header: str) -> None:
    name = _client(OURS, PROXY, header)
    assert _client(TrustedProxies(), name) == name, "the name is an address in its one spelling"
    assert set(name) <= set("0123456789abcdef.:")
