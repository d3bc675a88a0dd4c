"""Raw bytes at the connection: valid requests, pipelined, cut anywhere, and then mutated ones.

What must hold: every complete valid request before an error is answered once and in order, nothing is
inside another response, and nothing of a closed connection stays in memory. `make fuzz` runs the long form.
"""

from __future__ import annotations

import asyncio
import gc
import random
import re

from tamis.service.http.connection import Connection
from tamis.service.http.cycle import RequestResponseCycle
from tests.service.http.test_cycle import application, request
from tests.support.connection_stage import Stage, on_stage
from tests.support.fuzzing import CASES

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)
_ALIEN = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"content-length: 9\r\n",
    b"0\r\n\r\n",
]
_GARBAGE = [
    b"\x16\x03\x01",
    b"hello\r\n\r\n",
    b"GET / HTTP/2.0\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
]


def _valid(rng: random.Random, path: str) -> tuple[bytes, bytes]:
    """Return a valid request, and the body that it is answered with."""
    body = rng.randbytes(rng.choice([0, 1, 5, 300, 5_000]))
    headers = [f"x-{number}: {'v' * rng.randrange(20)}" for number in range(rng.randrange(4))]
    if rng.random() < 0.2:
        headers += ["connection: upgrade", "upgrade: h2c"]
    if rng.random() < 0.6:
        return request(path, body, *headers), path.encode() + body
    head = request(path, b"", *headers).replace(b"content-length: 0", b"transfer-encoding: chunked")
    return head + _chunked(rng, body), path.encode() + body


def _chunked(rng: random.Random, body: bytes) -> bytes:
    chunks, offset = b"", 0
    while offset < len(body):
        piece = body[offset : offset + rng.randrange(1, 2_000)]
        extension = rng.choice([b"", b";a", b";a=b"])
        chunks, offset = chunks + b"%x%s\r\n%s\r\n" % (len(piece), extension, piece), offset + len(piece)
    return chunks + b"0\r\n" + rng.choice([b"", b"x-forwarded-for: 127.0.0.9\r\n"]) + b"\r\n"


def _mutated(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(data))
        data = data[:start] + rng.choice([*_ALIEN, rng.randbytes(1)]) + data[start + rng.randrange(3) :]
    return data


def _bodies(received: bytes) -> list[tuple[int, bytes]]:
    """Parse responses strictly; whatever is not a response fails."""
    found, offset = [], 0
    while offset < len(received):
        head = _HEAD.match(received, offset)
        assert head, received[offset : offset + 200]
        status, headers, offset = int(head[1]), head[2].lower(), head.end()
        if status == 100:
            continue
        if b"transfer-encoding: chunked" in headers:
            body, offset = _dechunked(received, offset)
        else:
            length = int(headers.partition(b"content-length: ")[2].split(b"\r")[0])
            body, offset = received[offset : offset + length], offset + length
            assert len(body) == length
        found.append((status, body))
    return found


def _dechunked(received: bytes, offset: int) -> tuple[bytes, int]:
    body, size = b"", -1
    while size:
        end = received.index(b"\r\n", offset)
        size = int(received[offset:end], 16)
        body, offset = body + received[end + 2 : end + 2 + size], end + 4 + size
        assert received[offset - 2 : offset] == b"\r\n"
    return body, offset


async def _exchange(stage: Stage, sent: bytes, rng: random.Random) -> bytes:
    reader, writer = await stage.connect()
    cuts = sorted(rng.randrange(len(sent) + 1) for _ in range(rng.choice([0, 1, 3, 20])))
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        writer.write(sent[start:end])
        for _ in range(rng.choice([0, 1, 5])):
            await asyncio.sleep(0)
    await stage.settle()
    for second in range(3):  # what is incomplete meets its deadline
        stage.monitor.sweep(stage.state.connections, stage.now + 100 * second)
        await stage.settle()
    received = await reader.read()
    writer.transport.abort()
    stage.clients.clear()
    return received


async def _attack(stage: Stage, rng: random.Random) -> None:
    valid = [_valid(rng, rng.choice(["/a", "/stream"])) for _ in range(rng.randrange(1, 30))]
    expected = [(200, b"onetwo" + body if body.startswith(b"/stream") else body) for _, body in valid]
    last = rng.choice([*_GARBAGE, _mutated(rng, _valid(rng, "/mutated")[0])])
    sent = b"".join(data for data, _ in valid) + last
    found = _bodies(await _exchange(stage, sent, rng))
    assert found[: len(expected)] == expected
    rest = found[len(expected) :]
    if last in _GARBAGE:
        assert [status for status, _ in rest] == [400]
    assert all(status == 200 for status, _ in rest[:-1])


def test_fuzz_connection_answers_in_order_and_forgets() -> None:
    async def test(stage: Stage) -> None:
        for seed in range(CASES):
            await _attack(stage, random.Random(seed))
            stage.monitor.lingering.sweep(float("inf"))
        await stage.settle()
        alive = [one for one in gc.get_objects() if isinstance(one, (Connection, RequestResponseCycle))]
        assert alive == []

    gc.collect()
    gc.disable()
    try:
        on_stage(test, application, seconds=60 + CASES)
    finally:
        gc.enable()
    print(f"\n{CASES:,} connections with valid, pipelined, cut and mutated requests")  # noqa: T201
