"""`Client` and `AsyncClient`: the operations over a blocking and over an asynchronous httpx client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from tamis.client import operations
from tamis.client.operations import (
    Failure,
    Pause,
    Reply,
    Request,
    RetryPolicy,
    Steps,
    TextOptions,
    client_settings,
    failure,
    httpx,
    parts,
    reply,
    unix_path,
)
from tamis.client.records import (
    FeedbackReceipt,
    LoggedPrediction,
    ModelStatus,
    ServedPrediction,
    TokenExplanation,
)

Result = TypeVar("Result")


class Client:
    """Calls a running service; may be shared by threads.

    address:     such as `http://127.0.0.1:8000`, `https://example.org/spam` or `unix:/run/tamis.sock`
    timeout:     seconds that one request may take to connect, to be sent or to be answered
    retry:       how often and how long to retry; a text that is sent again is logged again
    concurrency: requests of `predict_many` at the same time
    sleep:       how to wait before a retry

    Each method raises ServiceError with the service's code.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        concurrency: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ):
        path = unix_path(address)
        transport = None if path is None else httpx.HTTPTransport(uds=path)
        self._http = httpx.Client(**client_settings(address, api_key, timeout), transport=transport)
        self._retry, self._concurrency, self._sleep = retry or RetryPolicy(), concurrency, sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self, text: str, *, model: str | None = None, echo_input: bool = False, skip_cache: bool = False
    ) -> ServedPrediction:
        """Classify one text; `model` is `name`, `name@version` or `name@alias`."""
        return self._run(operations.predict(self._retry, text, TextOptions(model, echo_input, skip_cache)))

    def predict_many(
        self, texts: Iterable[str], *, model: str | None = None, **options: Any
    ) -> list[ServedPrediction]:
        """Classify many texts in as many requests as they need; return the predictions in the same order.

        `options` are those of `predict`, and the bounds of one request: `max_texts`, `max_body_bytes`.
        """
        chosen = TextOptions(model, **options)

        def predict(batch: list[str]) -> list[ServedPrediction]:
            return self._run(operations.predict_batch(self._retry, batch, chosen))

        # httpx.Client may be shared by threads
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="tamis-client")
        try:
            pending = [pool.submit(predict, batch) for batch in operations.batches(texts, chosen)]
            return [one for done in pending for one in done.result()]
        finally:
            # after an error the other requests are pointless; those that run are waited for
            pool.shutdown(cancel_futures=True)

    def explain(self, text: str, label: str | None = None) -> TokenExplanation:
        """Return what each token contributes to `label`, by default the most probable one."""
        return self._run(operations.explain(self._retry, text, label))

    def feedback(
        self, label: str, *, prediction_id: str | None = None, text: str | None = None, comment: str = ""
    ) -> FeedbackReceipt:
        """Report the true label of a prediction or of a text."""
        steps = operations.feedback(
            self._retry, label, prediction_id=prediction_id, text=text, comment=comment
        )
        return self._run(steps)

    def log(self, **filters: Any) -> Iterator[LoggedPrediction]:
        """Yield your calls, newest first, page by page; `filters` are the parameters of `GET /log`."""
        cursor = None
        while True:
            page = self._run(operations.log_page(self._retry, filters, cursor))
            yield from page.calls
            cursor = page.next_cursor
            if cursor is None:
                return

    def models(self) -> list[ModelStatus]:
        """Return the models, the default one first."""
        return self._run(operations.models(self._retry))

    def _run(self, steps: Steps[Result]) -> Result:
        answer: Reply | Failure | None = None
        while True:
            try:
                step = steps.send(answer)
            # the return value of a generator
            except StopIteration as end:
                result: Result = end.value
                return result
            # the generator takes None after a pause
            if isinstance(step, Pause):
                self._sleep(step.seconds)
                answer = None
            else:
                answer = self._send(step)

    def _send(self, request: Request) -> Reply | Failure:
        try:
            return reply(self._http.request(**parts(request)))
        except httpx.TransportError as error:
            return failure(error)


class AsyncClient:
    """Calls a running service from an event loop; its arguments and methods are those of `Client`."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        concurrency: int = 4,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        path = unix_path(address)
        transport = None if path is None else httpx.AsyncHTTPTransport(uds=path)
        self._http = httpx.AsyncClient(**client_settings(address, api_key, timeout), transport=transport)
        self._retry, self._concurrency, self._sleep = retry or RetryPolicy(), concurrency, sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self, text: str, *, model: str | None = None, echo_input: bool = False, skip_cache: bool = False
    ) -> ServedPrediction:
        """Classify one text; `model` is `name`, `name@version` or `name@alias`."""
        options = TextOptions(model, echo_input, skip_cache)
        return await self._run(operations.predict(self._retry, text, options))

    async def predict_many(
        self, texts: Iterable[str], *, model: str | None = None, **options: Any
    ) -> list[ServedPrediction]:
        """Classify many texts in as many requests as they need; return the predictions in the same order.

        `options` are those of `predict`, and the bounds of one request: `max_texts`, `max_body_bytes`.
        """
        chosen, limit = TextOptions(model, **options), asyncio.Semaphore(self._concurrency)

        async def predict(batch: list[str]) -> list[ServedPrediction]:
            async with limit:
                return await self._run(operations.predict_batch(self._retry, batch, chosen))

        tasks = [asyncio.create_task(predict(batch)) for batch in operations.batches(texts, chosen)]
        try:
            return [one for answered in await asyncio.gather(*tasks) for one in answered]
        finally:
            # after an error the other requests are pointless
            for task in tasks:
                task.cancel()
            # awaited, so that no connection is in use when the caller goes on
            await asyncio.gather(*tasks, return_exceptions=True)

    async def explain(self, text: str, label: str | None = None) -> TokenExplanation:
        """Return what each token contributes to `label`, by default the most probable one."""
        return await self._run(operations.explain(self._retry, text, label))

    async def feedback(
        self, label: str, *, prediction_id: str | None = None, text: str | None = None, comment: str = ""
    ) -> FeedbackReceipt:
        """Report the true label of a prediction or of a text."""
        steps = operations.feedback(
            self._retry, label, prediction_id=prediction_id, text=text, comment=comment
        )
        return await self._run(steps)

    async def log(self, **filters: Any) -> AsyncIterator[LoggedPrediction]:
        """Yield your calls, newest first, page by page; `filters` are the parameters of `GET /log`."""
        cursor = None
        while True:
            page = await self._run(operations.log_page(self._retry, filters, cursor))
            for call in page.calls:
                yield call
            cursor = page.next_cursor
            if cursor is None:
                return

    async def models(self) -> list[ModelStatus]:
        """Return the models, the default one first."""
        return await self._run(operations.models(self._retry))

    async def _run(self, steps: Steps[Result]) -> Result:
        answer: Reply | Failure | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                await self._sleep(step.seconds)
                answer = None
            else:
                answer = await self._send(step)

    async def _send(self, request: Request) -> Reply | Failure:
        try:
            return reply(await self._http.request(**parts(request)))
        except httpx.TransportError as error:
            return failure(error)
