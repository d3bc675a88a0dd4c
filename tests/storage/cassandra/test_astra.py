"""Bundles that cannot be read and databases that sleep; the endpoint itself is on loopback."""

from __future__ import annotations

import gc
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tamis.errors import StoreError
from tamis.storage import Astra, ClusterOptions, LogQuery, Store, StoreOptions, TimeIds, make_store
from tests.support.astra_endpoint import astra_endpoint
from tests.support.fake_cql import DATA_CENTER, fake_cluster
from tests.support.fakes import ManualClock
from tests.support.store_samples import call, everything

pytest.importorskip("cassandra", reason="the extra tamis[cassandra] is not installed")
pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with"),
    # the driver's own way to read a bundle
    pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning"),
]


def astra_store(bundle: Path) -> Store:
    astra = Astra(bundle, "spam", user="token", password="AstraCS:hunter2")
    return make_store("astra:", ManualClock(), StoreOptions(cluster=ClusterOptions(astra=astra)))


def ids_of(addresses: list[str], port: int) -> dict[str, tuple[str, int]]:
    """The fake nodes' host ids are the last bytes of their addresses."""
    return {
        f"00000000-0000-0000-0000-{int(address.rpartition('.')[2]):012x}": (address, port)
        for address in addresses
    }


async def test_a_bundle_leads_through_tls_to_the_nodes(tmp_path: Path):
    async with (
        fake_cluster() as fake,
        astra_endpoint(tmp_path, ids_of(fake.addresses, fake.port), DATA_CENTER) as endpoint,
    ):
        store = astra_store(endpoint.bundle)
        await store.open()
        await store.log.append([call(TimeIds(ManualClock()))])
        assert await everything(store, LogQuery(caller="nobody")) == []
        await store.close()
        assert fake.count("INSERT INTO spam.calls") == 1
        assert endpoint.passed_on >= 2
    assert not list(tmp_path.glob("tmp*")), "nothing is unpacked beside the bundle"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_astra_hibernating_database_is_one_clear_line(tmp_path: Path, drivers_leftovers: None):
    async with astra_endpoint(tmp_path, {}, DATA_CENTER) as endpoint:
        endpoint.status = 503
        with pytest.raises(StoreError, match="Resume a hibernated database in Astra's console") as failed:
            await astra_store(endpoint.bundle).open()
        assert "metadata service" in str(failed.value)
        assert "\n" not in str(failed.value) and "hunter2" not in str(failed.value)


@pytest.fixture
def drivers_leftovers() -> Iterator[None]:
    """The driver leaves the metadata service's refusal to the garbage collector: collect it here."""
    yield
    gc.collect()


@pytest.mark.parametrize("content", [None, b"no zip", "empty zip", "no certificates"])
async def test_a_bundle_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | str | None):
    bundle = tmp_path / "bundle.zip"
    if isinstance(content, bytes):
        bundle.write_bytes(content)
    elif content is not None:
        with zipfile.ZipFile(bundle, "w") as file:
            if content == "no certificates":
                file.writestr("config.json", "{}")
    with pytest.raises(StoreError, match=r"bundle\.zip cannot be read .* download it again") as failed:
        await astra_store(bundle).open()
    assert "\n" not in str(failed.value)
