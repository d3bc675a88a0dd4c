"""Both clients against a real `tamis serve`: the same operations, the same results, the same errors."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tamis import AsyncClient, Client
from tamis.client import (
    AccessError,
    ConnectionFailedError,
    NotFoundError,
    RateLimitedError,
    RequestRefusedError,
)
from tamis.client.operations import RetryPolicy
from tests.support.artifacts import save_model
from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON, Service, serving

_QUICK = {"TAMIS_DRAIN_SECONDS": "0"}
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("client")
    save_model(folder / "spam")
    settings = {"TAMIS_MAX_TEXTS": "50", "TAMIS_MAX_BODY_BYTES": "20000"} | _QUICK
    with serving(folder, "spam", "--store", "memory:", **settings) as running:
        yield running


@pytest.fixture(params=["blocking", "asynchronous"])
def call(request: pytest.FixtureRequest) -> Call:
    """Call a method of either client: `call(address, name, *arguments, settings={}, **options)`."""

    async def asynchronously(address: str, name: str, *given: Any, settings: Any, **options: Any) -> Any:
        async with AsyncClient(address, **settings) as client:
            if name == "log":
                return [one async for one in client.log(**options)]
            return await getattr(client, name)(*given, **options)

    def in_loop(address: str, name: str, *given: Any, settings: Any = None, **options: Any) -> Any:
        return asyncio.run(asynchronously(address, name, *given, settings=settings or {}, **options))

    def blocking(address: str, name: str, *given: Any, settings: Any = None, **options: Any) -> Any:
        with Client(address, **settings or {}) as client:
            found = getattr(client, name)(*given, **options)
            return list(found) if name == "log" else found

    return blocking if request.param == "blocking" else in_loop


@pytest.fixture
def pauses(call: Call, request: pytest.FixtureRequest) -> tuple[list[float], dict[str, Any]]:
    """The pauses that a client was asked to make, and the settings that record them."""
    made: list[float] = []

    async def record(seconds: float) -> None:
        made.append(seconds)

    return made, {"sleep": record if "asynchronous" in request.node.name else made.append}


@pytest.mark.parametrize("model", [None, "spam", "spam@1"])
def test_predictions_are_the_services_own(service: Service, call: Call, model: str | None) -> None:
    one = call(service.address, "predict", "WIN a phone", model=model, echo_input=True)
    [same] = call(service.address, "predict_many", ["WIN a phone"], model=model)
    assert (one.input, one.model_name, one.model_version) == ("WIN a phone", "spam", "1")
    assert one.scores == same.scores and one.score == max(one.scores.values()) == one.scores[one.label]
    assert same.input is None and same.from_cache


def test_many_texts_are_split_and_keep_their_order(service: Service, call: Call) -> None:
    texts = [f"text {number} " + "x" * (number % 7 * 60) for number in range(700)]
    found = call(service.address, "predict_many", iter(texts), echo_input=True, max_body_bytes=8_000)
    assert [one.input for one in found] == texts  # the service takes 50 of them: requests are halved
    assert call(service.address, "predict_many", []) == []


def test_feedback_log_models_and_explanation_are_typed(service: Service, call: Call) -> None:
    marked = [f"call {number} of {call.__name__}" for number in range(230)]
    found = call(service.address, "predict_many", marked, max_texts=40)
    logged = call(service.address, "log", contains=f"of {call.__name__}", limit=100)
    assert {one.id for one in logged} == {one.id for one in found} and len(logged) == 230
    receipt = call(service.address, "feedback", "ham", prediction_id=found[0].id, comment="seen")
    again = call(service.address, "feedback", "ham", prediction_id=found[0].id)
    assert receipt.input == marked[0] and receipt.id == again.id and not receipt.is_new_label
    [model] = call(service.address, "models")
    assert (model.name, model.version, model.is_default) == ("spam", "1", True)
    assert call(service.address, "explain", "WIN a phone", "spam").label == "spam"


@pytest.mark.parametrize(
    ("name", "given", "options", "kind", "code"),
    [
        ("predict", ["x" * 10_001], {}, RequestRefusedError, "text_too_long"),
        ("predict", ["\ud800"], {}, RequestRefusedError, "not_json"),
        ("predict_many", [["a", "\ud800"]], {}, RequestRefusedError, "not_json"),
        ("predict", ["a"], {"model": "ham"}, NotFoundError, "unknown_model"),
        ("predict", ["a"], {"model": "spam@7"}, NotFoundError, "unknown_model"),
        ("predict", ["a"], {"model": "a/../b"}, NotFoundError, "not_found"),
        ("predict_many", [["a"]], {"model": "spam@none"}, NotFoundError, "unknown_model"),
        ("explain", ["a", "eggs"], {}, RequestRefusedError, "unknown_label"),
        ("feedback", ["ham"], {"prediction_id": "x"}, NotFoundError, "prediction_not_found"),
        ("log", [], {"colour": "red"}, RequestRefusedError, "unknown_field"),
    ],
)
def test_an_error_has_the_services_code(
    service: Service, call: Call, name: str, given: list[Any], options: dict[str, Any], kind: type, code: str
) -> None:
    with pytest.raises(kind) as refused:
        call(service.address, name, *given, **options)
    assert refused.value.code == code
    assert "\ud800" not in str(refused.value)
    assert bool(refused.value.request_id) == bool(refused.value.status)


def test_feedback_without_one_subject_is_a_value_error(call: Call) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        call("http://127.0.0.1:1", "feedback", "ham", text="a", prediction_id="b")


def test_a_key_is_sent_and_its_lack_is_an_access_error(tmp_path: Path, call: Call) -> None:
    tamis = tamis_command()
    keys = {"TAMIS_STATE_DIRECTORY": str(tmp_path)}
    made = subprocess.run(
        [*tamis, "keys", "create", "newsroom"],
        cwd=tmp_path,
        env=ENVIRON | keys,
        capture_output=True,
        text=True,
        check=True,
    )
    [key] = [word for word in made.stdout.split() if word.startswith("tamis_")]
    with serving(
        tmp_path, "--mock", "--store", "memory:", TAMIS_REQUIRE_KEYS="true", **keys, **_QUICK
    ) as open_:
        assert call(open_.address, "predict", "a", settings={"api_key": key}).label
        with pytest.raises(AccessError, match="missing_key"):
            call(open_.address, "predict", "a")


def test_a_rate_limit_is_waited_for_as_long_as_asked(
    tmp_path: Path, call: Call, pauses: tuple[list[float], dict[str, Any]]
) -> None:
    limits = {"TAMIS_RATE_PER_MINUTE": "1", "TAMIS_RATE_BURST": "5", "TAMIS_STATE_DIRECTORY": str(tmp_path)}
    made, settings = pauses
    with serving(tmp_path, "--mock", "--store", "memory:", **limits, **_QUICK) as service:
        call(service.address, "predict_many", ["a"] * 5)
        settings["retry"] = RetryPolicy(max_wait_seconds=150)
        with pytest.raises(RateLimitedError) as refused:  # no time passes: the pauses are only recorded
            call(service.address, "predict", "a", settings=settings)
    assert refused.value.code == "rate_limited" and refused.value.retry_after in (59, 60)
    assert made in ([60, 60], [60, 59], [59, 59])


def test_a_refused_connection_is_retried_then_unreachable(
    call: Call, pauses: tuple[list[float], dict[str, Any]]
) -> None:
    made, settings = pauses
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionFailedError) as failed:
            call(f"http://127.0.0.1:{free.getsockname()[1]}", "predict", "a", settings=settings)
    assert (failed.value.code, failed.value.status) == ("unreachable", 0)
    assert made == [0.1, 0.2, 0.4]


def test_a_stopped_service_is_a_timeout_then_answers(
    tmp_path: Path, call: Call, pauses: tuple[list[float], dict[str, Any]]
) -> None:
    made, settings = pauses
    with serving(tmp_path, "--mock", "--store", "memory:", **_QUICK) as service:
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionFailedError) as failed:
                call(service.address, "predict", "a", settings=settings | {"timeout": 0.2})
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        assert (failed.value.code, failed.value.status, made) == ("timeout", 0, [])
        assert call(service.address, "predict", "a").label


def test_an_overloaded_service_is_asked_again(
    tmp_path: Path, call: Call, pauses: tuple[list[float], dict[str, Any]]
) -> None:
    """Lists that arrive while another one is scored get a 503: no text may wait for the model."""
    made, settings = pauses
    settings |= {"concurrency": 8, "retry": RetryPolicy(max_wait_seconds=1e6)}
    save_model(tmp_path / "spam")
    limits = {"TAMIS_MAX_QUEUE_SECONDS": "0", **_QUICK}
    with serving(tmp_path, "spam", "--store", "memory:", **limits) as service:
        for attempt in range(20):
            texts = [f"{attempt} {number} " + "word " * 100 for number in range(2_000)]
            found = call(service.address, "predict_many", texts, echo_input=True, settings=settings)
            assert [one.input for one in found] == texts
            if made:
                break
    assert made and min(made) >= 1, "what the header `retry-after` says"


def test_a_killed_worker_costs_no_answer(tmp_path: Path, call: Call) -> None:
    arguments = ("--mock", "--store", "memory:", "--workers", "2")
    with serving(tmp_path, *arguments, **_QUICK) as service:
        while len(workers := service.workers()) < 2:
            pass
        texts = [f"text {number}" for number in range(3_000)]

        def texts_and_a_kill() -> Iterator[str]:
            for number, text in enumerate(texts):
                if number == 1_000:
                    os.kill(min(workers), signal.SIGKILL)
                yield text

        settings = {"retry": RetryPolicy(retries=8)}
        found = call(
            service.address,
            "predict_many",
            texts_and_a_kill(),
            max_texts=50,
            echo_input=True,
            settings=settings,
        )
        assert [one.input for one in found] == texts


def test_a_unix_socket_is_an_address(tmp_path: Path, call: Call) -> None:
    address = f"unix:{tmp_path}/s"
    with serving(tmp_path, "--mock", "--store", "memory:", "--host", address, **_QUICK):
        assert call(address, "predict", "a").label


def test_the_client_imports_no_part_of_the_server() -> None:
    server = "{'numpy', 'fastapi', 'apsw'}"
    script = f"import sys, tamis; tamis.Client; tamis.AsyncClient; print({server} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_documented_lines_work(service: Service) -> None:
    """The blocks of the section are run as they stand, one after the other, on another port."""
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text("utf-8")
    section = page.partition("## Python")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks).replace("http://127.0.0.1:8000", service.address)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(blocks) == 3 and "text_too_long 422" in done.stdout
