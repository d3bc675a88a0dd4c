"""ClientIdentifier known by their addresses, and who they are to the rate limit."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tamis.service.security.client_identity import caller_at
from tamis.settings import Settings
from tests.support.serving import client_of, make_app

Ask = Callable[..., httpx.Response]


def test_callers_at_addresses_are_no_administrators() -> None:
    assert not caller_at("127.0.0.1").is_admin


@pytest.mark.parametrize(
    ("address", "limited_as"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("unix:", "unix:"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
    ],
)
def test_a_limit_counts_an_ipv6_site_as_one_caller(address: str, limited_as: str) -> None:
    caller = caller_at(address)
    assert (caller.name, caller.limited_as) == (address, limited_as)


def test_a_forged_header_changes_nothing_when_no_proxy_is_listed(ask: Ask) -> None:
    info = ask("GET", "/", headers={"x-forwarded-for": "198.51.100.1"}).json()
    assert info["caller_id"] == "192.0.2.7"


async def test_callers_behind_a_proxy_keep_their_names_and_logs_apart() -> None:
    app = make_app(Settings(trusted_proxies="10.0.0.1"))
    async with client_of(app, peer=("10.0.0.1", 5_000)) as client:
        anne, bert = ({"x-forwarded-for": f"9.9.9.9, 192.0.2.{last}"} for last in (1, 2))
        assert (await client.get("/", headers=anne)).json()["caller_id"] == "192.0.2.1"
        for caller, text in ((anne, "from anne"), (bert, "from bert")):
            await client.post("/prediction", json={"text": text}, headers=caller)
        for caller, text in ((anne, "from anne"), (bert, "from bert")):
            log = (await client.get("/recent_log", headers=caller)).json()
            assert [entry["input"] for entry in log] == [text]
        forged = {"x-forwarded-for": "192.0.2.1, 192.0.2.2"}
        assert [entry["input"] for entry in (await client.get("/recent_log", headers=forged)).json()] == [
            "from bert"
        ]
