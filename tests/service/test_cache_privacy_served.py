"""What a caller can learn from the prediction cache about other callers' texts: by default, nothing.

Real servers, their stores, and a restart; `test_cache_privacy` has the settings.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.processes import Service, serving

_PROXY = {"TAMIS_TRUSTED_PROXIES": "127.0.0.1", "TAMIS_DRAIN_SECONDS": "0"}


def _ask(service: Service, text: str, *, caller: str) -> dict[str, object]:
    """Ask as the listed proxy does that passes on the request of `caller`."""
    response = httpx.post(
        f"{service.address}/prediction", json={"text": text}, headers={"x-forwarded-for": caller}
    )
    response.raise_for_status()
    answer: dict[str, object] = response.json()
    return answer


@pytest.mark.parametrize("store", ["memory:", "sqlite:///tamis.db"])
def test_from_cache_is_true_for_own_texts_only(tmp_path: Path, store: str) -> None:
    with serving(tmp_path, "--mock", "--store", store, **_PROXY) as service:
        first = _ask(service, "a secret", caller="192.0.2.1")
        other = _ask(service, "a secret", caller="192.0.2.2")
        again = _ask(service, "a secret", caller="192.0.2.1")
        other_again = _ask(service, "a secret", caller="192.0.2.2")
    seen = [answer["from_cache"] for answer in (first, other, again, other_again)]
    assert seen == [False, False, True, True]
    assert first["prediction"] == again["prediction"] == other["prediction"] == other_again["prediction"]


def test_own_texts_are_known_after_a_restart(tmp_path: Path) -> None:
    for known in (False, True):
        with serving(tmp_path, "--mock", "--store", "sqlite:///tamis.db", **_PROXY) as service:
            assert _ask(service, "hello", caller="192.0.2.1")["from_cache"] is known
            if known:
                assert _ask(service, "hello", caller="192.0.2.2")["from_cache"] is False
            service.stop()


def test_another_callers_text_costs_a_lookup_that_misses(tmp_path: Path) -> None:
    with serving(tmp_path, "--mock", "--store", "sqlite:///tamis.db", **_PROXY) as service:
        _ask(service, "a secret", caller="192.0.2.1")
        before = _counted(service)
        _ask(service, "a secret", caller="192.0.2.2")
        after_known = _counted(service)
        _ask(service, "sent by nobody", caller="192.0.2.2")
        after_new = _counted(service)
    known, new = (
        [b - a for a, b in pair]
        for pair in (zip(before, after_known, strict=True), zip(after_known, after_new, strict=True))
    )
    assert known == new == [0, 0, 1, 1]


def _counted(service: Service) -> list[float]:
    """Return hits in memory and in the store, misses, and texts that the model has taken."""
    page = httpx.get(f"{service.address}/metrics").text
    names = (
        'tamis_cache_hits_total{layer="memory"}',
        'tamis_cache_hits_total{layer="store"}',
        "tamis_cache_misses_total",
        "tamis_batch_texts_sum",
    )
    lines = [line.rpartition(" ") for line in page.splitlines()]
    counted = {name: float(number) for name, _, number in lines if not name.startswith("#")}
    return [counted.get(name, 0.0) for name in names]  # a series that is 0 may be left out


def test_a_shared_cache_answers_every_caller(tmp_path: Path) -> None:
    settings = _PROXY | {"TAMIS_SHARE_CACHE": "true"}
    with serving(tmp_path, "--mock", "--store", "sqlite:///tamis.db", **settings) as service:
        seen = [_ask(service, "hi", caller=f"192.0.2.{one}")["from_cache"] for one in (1, 2)]
    assert seen == [False, True]
