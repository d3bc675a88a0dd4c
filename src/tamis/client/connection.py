"""httpx behind the operations: addresses, headers, and its exceptions as failures."""

from __future__ import annotations

from typing import Any, TypedDict

from tamis.client.operations import Failure, Reply, Request, failure_of
from tamis.errors import MissingExtraError

try:
    import httpx as httpx  # both clients take it from here
except ModuleNotFoundError:
    raise MissingExtraError("the client", "client") from None

_UNIX_PREFIX = "unix:"


class ClientSettings(TypedDict):
    """What both clients of httpx are made with."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout


def client_settings(address: str, api_key: str | None, timeout: float) -> ClientSettings:
    """Return the settings for an address such as `http://127.0.0.1:8000`, with a path if there is one."""
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    base_url = "http://localhost" if address.startswith(_UNIX_PREFIX) else address
    return {"base_url": base_url, "headers": headers, "timeout": httpx.Timeout(timeout, pool=None)}


def unix_path(address: str) -> str | None:
    """Return the path of `unix:/run/tamis.sock`, None for another address."""
    return address.removeprefix(_UNIX_PREFIX) if address.startswith(_UNIX_PREFIX) else None


def parts(request: Request) -> dict[str, Any]:
    """Return a request as the arguments of httpx."""
    headers = {} if request.content is None else {"content-type": "application/json"}
    return {
        "method": request.method,
        "url": request.path,
        "content": request.content,
        "params": dict(request.params),
        "headers": headers,
    }


def reply(response: httpx.Response) -> Reply:
    """Return a response of httpx."""
    return Reply(response.status_code, response.headers, response.content)


def failure(error: httpx.TransportError) -> Failure:
    """Return what became of a request without a response."""
    is_unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
    is_timeout = isinstance(error, httpx.TimeoutException) and not is_unsent
    return failure_of(error, is_unsent=is_unsent, is_timeout=is_timeout)
