"""Real services with a small model, and a browser on their page."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from selenium import webdriver

from tamis.artifact import OperatingPoint
from tests.support.artifacts import save_model
from tests.support.chromium import Page, start_chromium
from tests.support.command_server import tamis_command
from tests.support.processes import ENVIRON, Service, serving

POINT = OperatingPoint("spam", 0.75, 0.005, 0.95, 0.004, "out-of-fold answers")
METRICS = {"rows": 40, "accuracy": {"value": 0.975, "low": 0.8712, "high": 0.9956}}


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = start_chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def serve(chromium: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Start a service with a small model, `environ` set for it; all of them end with the tests."""
    with ExitStack() as running:

        def start(*arguments: str, **environ: str) -> Service:
            folder = tmp_path_factory.mktemp("service")
            save_model(folder / "spam", metrics=METRICS, operating_point=POINT)
            return running.enter_context(
                serving(folder, *(arguments or ("spam",)), is_program=True, **environ)
            )

        yield start


@pytest.fixture(scope="session")
def service(serve: Callable[..., Service]) -> Service:
    return serve()


@pytest.fixture(scope="session")
def strict_service(serve: Callable[..., Service]) -> Service:
    """A service with limits that a test can reach."""
    return serve(TAMIS_MAX_TEXT_CHARS="1000", TAMIS_RATE_PER_MINUTE="15", TAMIS_RATE_BURST="2")


@pytest.fixture(scope="session")
def key_file(chromium: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="session")
def key(key_file: Path) -> str:
    """Ada's key."""
    create = tamis_command("keys", "create", "ada", "--file", str(key_file))
    return subprocess.run(create, env=ENVIRON, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def locked_service(serve: Callable[..., Service], key_file: Path, key: str) -> Service:
    """A service that lets nobody in but Ada."""
    return serve(TAMIS_REQUIRE_KEYS="true", TAMIS_KEYS_FILE=str(key_file))


@pytest.fixture
def visit(chromium: webdriver.Chrome) -> Iterator[Callable[[Service], Page]]:
    """Open a service's page in a new tab; whatever the test does there, nothing else may go wrong."""
    pages: list[Page] = []

    def open_page(service: Service) -> Page:
        chromium.switch_to.new_window("tab")
        page = Page(chromium, service.address)
        page.hosts()  # of the tests before
        page.complaints()
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.hosts() <= {page.address.removeprefix("http://")}
        assert page.complaints() == []
    while len(chromium.window_handles) > 1:
        chromium.close()
        chromium.switch_to.window(chromium.window_handles[-1])


@pytest.fixture
def page(visit: Callable[[Service], Page], service: Service) -> Page:
    opened = visit(service)
    opened.open()
    return opened
