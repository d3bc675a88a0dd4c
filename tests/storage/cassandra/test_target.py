from __future__ import annotations

from pathlib import Path

import pytest

from tamis.errors import StoreError
from tamis.storage import Astra
from tamis.storage.cassandra.target import Target


def test_everything_a_url_can_say_is_read():
    target = Target.of(
        "cassandra://me:p%40ss@db1,[::1],10.0.0.3:9142/Spam?local_dc=eu&tls=true&tls_ca=/ca.pem&protocol=4",
        None,
    )
    assert target == Target(
        "Spam", ("db1", "::1", "10.0.0.3"), 9142, "eu", "me", "p@ss", tls=True, tls_ca="/ca.pem", protocol=4
    )


def test_what_a_url_leaves_out_has_defaults():
    target = Target.of("cassandra://[::1]/spam", None)
    assert target == Target("spam", ("::1",), 9042)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("cassandra://u:secret@host", "has not that form"),
        ("cassandra:host/k", "has not that form"),
        ("cassandra://u:secret@host:port/k", "a port that is no number"),
        ("cassandra://u:secret@host:70000/k", "a port that is no number"),
        ("cassandra://u:secret@ho st/k", "a host that cannot be one"),
        ("cassandra://u:secret@a,,b/k", "a host that cannot be one"),
        ("cassandra://u:secret@host/k?dc=1", "an unknown option 'dc'; known are local_dc, protocol, tls"),
        ("cassandra://u:secret@host/k?tls=perhaps", "tls that must be true or false"),
        ("cassandra://u:secret@host/k;drop", "a keyspace's name must be letters"),
        ("cassandra://u:secret@host/1k", "a keyspace's name must be letters"),
    ],
)
def test_a_wrong_url_is_one_line_without_its_password(url: str, message: str):
    with pytest.raises(StoreError) as refused:
        Target.of(url, None)
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


def test_no_name_of_a_target_shows_a_secret():
    astra = Target.of("astra:", Astra(Path("b.zip"), "spam", "token", "secret"))
    url = Target.of("cassandra://me:secret@db1:9142/spam?local_dc=eu", None)
    assert (astra.name, astra.url, astra.protocol) == ("astra:spam", "astra:", 4)
    assert url.name == "cassandra://db1:9142/spam"
    assert "secret" not in f"{astra} {url} {astra.name} {url.url}"


def test_astra_needs_its_description():
    with pytest.raises(StoreError, match="bundle, keyspace and token"):
        Target.of("astra:", None)
