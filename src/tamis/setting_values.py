"""How the values of settings are read; ValueError says what a value must be. Knows no setting."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"", "0", "false", "f", "no", "n", "off"})


def text(value: str) -> str:
    """Read any text."""
    value.encode()  # the environment may hold bytes that are no text: they arrive as lone surrogates
    return value


def required_text(value: str) -> str:
    """Read any text but an empty one."""
    if not value:
        raise ValueError("must not be empty; leave it out for the default")
    return text(value)


def switch(value: str) -> bool:
    """Read a word for yes or no."""
    if value.lower() not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return value.lower() in _TRUE


def whole_number(first: int, last: int) -> Callable[[str], int]:
    """Read a whole number within bounds, both allowed."""

    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 20 and first <= int(value) <= last):
            raise ValueError(f"must be a whole number from {first} to {last}")
        return int(value)

    return parse


def seconds(first: float, last: float) -> Callable[[str], float]:
    """Read a number of seconds within bounds, both allowed."""

    def parse(value: str) -> float:
        if not (re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value) and first <= float(value) <= last):
            raise ValueError(f"must be a number of seconds from {first:g} to {last:g}")
        return float(value)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of a few words."""

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"must be {' or '.join(words)}")
        return value

    return parse


def base_url(value: str) -> str:
    """Read the address of an HTTP service, or nothing."""
    if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", value):
        raise ValueError("must be an address such as http://127.0.0.1:4318")
    return value


def host_names(value: str) -> str:
    """Check a list of names as the header `host` has them, without ports; `*` is any."""
    for entry in filter(None, (entry.strip() for entry in value.split(","))):
        if entry != "*" and not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", entry):
            raise ValueError(
                "must list host names without ports, such as classify.example.org,127.0.0.1,[::1], "
                "or be * for any"
            )
    return value


def proxies(value: str) -> str:
    """Check a list of addresses and networks; one that holds everybody would believe every caller."""
    for entry in filter(None, (entry.strip() for entry in value.split(","))):
        try:
            is_proxy = entry == "unix" or ip_network(entry).prefixlen > 0
        except ValueError:
            is_proxy = False
        if not is_proxy:
            raise ValueError(
                "must list your own proxies, such as 127.0.0.1,10.0.0.0/8,unix (with * every caller could "
                "claim any address)"
            )
    return value
