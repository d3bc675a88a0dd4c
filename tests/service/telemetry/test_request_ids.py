"""Which ids are believed, and that made ones are never made twice."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.service.telemetry.middleware import RequestIds


@pytest.mark.parametrize(
    "sent",
    [
        b"1",
        b"0af7651916cd43dd8448eb211c80319c",
        b"f47ac10b-58cc-4372-a567-0e02b2c3d479",
        b"Root=1-67891233-abcdef012345678912345678",
        b"x" * 128,
    ],
)
def test_a_plausible_id_is_taken_over(sent: bytes) -> None:
    assert RequestIds().of({b"host": b"x", b"x-request-id": sent}) == sent


@pytest.mark.parametrize(
    "sent", [b"", b"x" * 129, b"a b", b"a\nb", b"<b>", b'"', b"-x", b"caf\xc3\xa9", b"1\n"]
)
def test_an_implausible_id_is_replaced(sent: bytes) -> None:
    assert RequestIds(lambda count: bytes(count)).of({b"x-request-id": sent}) == b"000000000000-1"


@settings(deadline=None)
@given(st.binary())
def test_whatever_is_sent_an_id_is_safe_in_headers_and_lines(sent: bytes) -> None:
    assert re.fullmatch(rb"[\w.:+/=@-]{1,128}", RequestIds().of({b"x-request-id": sent}))


def test_made_ids_differ_also_between_processes() -> None:
    several = [RequestIds() for _ in range(5)]
    made = [ids.of({}) for ids in several for _ in range(1_000)]
    assert len({*made}) == 5_000
