from __future__ import annotations

from pathlib import Path

import pytest

from tamis.errors import StoreError
from tamis.storage import Astra
from tamis.storage.cassandra.connect import ClusterUrl


def test_everything_a_url_can_say_is_read():
    target = ClusterUrl.of(
        "cassandra://me:p%40ss@db1,[::1],10.0.0.3:9142/Spam?local_dc=eu&tls=true&tls_ca=/ca.pem&protocol=4",
        None,
    )
    assert target == ClusterUrl(
        "Spam", ("db1", "::1", "10.0.0.3"), 9142, "eu", "me", "p@ss", tls=True, tls_ca="/ca.pem", protocol=4
    )


def test_what_a_url_leaves_out_has_defaults():
    target = ClusterUrl.of("cassandra://[::1]/spam", None)
    assert target == ClusterUrl("spam", ("::1",), 9042)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("cassandra://u:secret@host", "is malformed"),
        ("cassandra:host/k", "is malformed"),
        ("cassandra://u:secret@host:port/k", "an invalid port; use 1 to 65535"),
        ("cassandra://u:secret@host:70000/k", "an invalid port; use 1 to 65535"),
        ("cassandra://u:secret@ho st/k", "an invalid host"),
        ("cassandra://u:secret@a,,b/k", "an invalid host"),
        ("cassandra://u:secret@host/k?dc=1", "an unknown option 'dc'; use local_dc, protocol, tls"),
        ("cassandra://u:secret@host/k?tls=perhaps", "invalid option tls; use true or false"),
        ("cassandra://u:secret@host/k;drop", "invalid keyspace name"),
        ("cassandra://u:secret@host/1k", "invalid keyspace name"),
    ],
)
def test_a_wrong_url_is_one_line_without_its_password(url: str, message: str):
    with pytest.raises(StoreError) as refused:
        ClusterUrl.of(url, None)
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


def test_cluster_url_never_shows_its_secret():
    astra = ClusterUrl.of("astra:", Astra(Path("b.zip"), "spam", "token", "secret"))
    url = ClusterUrl.of("cassandra://me:secret@db1:9142/spam?local_dc=eu", None)
    assert (astra.name, astra.url, astra.protocol) == ("astra:spam", "astra:", 4)
    assert url.name == "cassandra://db1:9142/spam"
    assert "secret" not in f"{astra} {url} {astra.name} {url.url}"


def test_astra_needs_its_description():
    with pytest.raises(StoreError, match="bundle, keyspace and token"):
        ClusterUrl.of("astra:", None)
