"""A server that speaks Cassandra's native protocol, version 4, and fails on cue.

It gives the answers that a real node will not give when a test wants them. It knows the tables of
Tamis by the names of their columns and keeps no rows: a SELECT of calls gives `pages`.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import md5
from uuid import UUID

ERROR, READY, SUPPORTED, RESULT = 0x00, 0x02, 0x06, 0x08
OPTIONS, QUERY, PREPARE, EXECUTE, BATCH = 0x05, 0x07, 0x09, 0x0A, 0x0D
VOID, ROWS, PREPARED = 1, 2, 4
INVALID, UNPREPARED = 0x2200, 0x2500
DATA_CENTER = "fake"
LOCAL_QUORUM = 6

_TEXT, _MAP, _SET = b"\0\x0d", b"\0\x21", b"\0\x22"
_NULL = b"\xff" * 4
_OFFERED = b"\0\2\0\x0bCQL_VERSION\0\1\0\x053.4.5\0\x0bCOMPRESSION\0\0"
_TYPES = {
    "key": b"\0\x03",
    "scores": _MAP + _TEXT + b"\0\x07",
    "expires_at": b"\0\x02",
    "hour": b"\0\x0b",
    "shard": b"\0\x14",
    "id": b"\0\x0f",
    "revision": b"\0\x0f",
    "subject": b"\0\x03",
    "score": b"\0\x07",
    "from_cache": b"\0\x04",
    "of_all": b"\0\x04",
    "TTL": b"\0\x09",
    "LIMIT": b"\0\x09",
    "tokens": _SET + _TEXT,
    "host_id": b"\0\x0c",
    "schema_version": b"\0\x0c",
    "rpc_address": b"\0\x10",
    "broadcast_address": b"\0\x10",
    "peer": b"\0\x10",
}

Row = Sequence["bytes | None"]
Answer = Callable[["Request"], "bytes | None"]
"""What to send back; None is silence."""


class Request:
    """One frame from a client, and the means to answer it."""

    def __init__(self, head: bytes, body: bytes, statement: str, writer: asyncio.StreamWriter):
        self.stream, self.opcode = struct.unpack(">hB", head[2:5])
        self.body, self.statement, self.writer = body, statement, writer

    def frame(self, opcode: int, body: bytes = b"") -> bytes:
        return struct.pack(">BBhBi", 0x84, 0, self.stream, opcode, len(body)) + body


def failing(code: int, extra: bytes = b"") -> Answer:
    """Answer with an error; some codes carry more."""
    return lambda request: request.frame(ERROR, struct.pack(">i", code) + _string("on cue") + extra)


OVERLOADED = failing(0x1001)
UNAVAILABLE = failing(0x1000, struct.pack(">hii", LOCAL_QUORUM, 2, 1))
WRITE_TIMEOUT = failing(0x1100, struct.pack(">hii", LOCAL_QUORUM, 1, 2) + b"\0\x06SIMPLE")
READ_TIMEOUT = failing(0x1200, struct.pack(">hii?", LOCAL_QUORUM, 1, 2, False))


def unprepared(request: Request) -> bytes:
    """Say that the statement was never prepared, as a node does that was restarted."""
    length = struct.unpack(">h", request.body[:2])[0]
    return failing(UNPREPARED, request.body[: 2 + length])(request) or b""


def silence(request: Request) -> None:
    """Never answer."""


def half_a_frame(request: Request) -> bytes:
    """Begin an answer and close the connection."""
    request.writer.write(request.frame(RESULT, struct.pack(">i", VOID))[:7])
    request.writer.close()
    return b""


def dropped(request: Request) -> bytes:
    """Close the connection instead of answering."""
    request.writer.transport.abort()
    return b""


class FakeCluster:
    """Nodes on one loop that share their cues: the first request that fits a cue uses it up."""

    def __init__(self, size: int):
        self.addresses = [f"127.0.0.{11 + number}" for number in range(size)]
        self.port = 0
        self.meta = {"schema_version": "3", "secret": "00" * 32}
        self.pages: list[list[Row]] = [[]]
        self.drops_at_page: int | None = None
        """The page at whose first request the connection breaks."""
        self.seen: list[str] = []
        self.connections: list[asyncio.StreamWriter] = []
        self._cues: list[tuple[str, Answer]] = []
        self._statements: dict[bytes, str] = {}

    @property
    def url(self) -> str:
        hosts = ",".join(self.addresses)
        return f"cassandra://{hosts}:{self.port}/spam?local_dc={DATA_CENTER}&protocol=4"

    def cue(self, statement: str, answer: Answer, *, times: int = 1) -> None:
        """Answer the next `times` executions of a statement that begins like this with `answer`."""
        self._cues += [(statement, answer)] * times

    def count(self, statement: str) -> int:
        """Return how many executions of such a statement have arrived."""
        return sum(one.startswith(statement) for one in self.seen)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                head = await reader.readexactly(9)
                body = await reader.readexactly(struct.unpack(">i", head[5:])[0])
                answer = self._answer(Request(head, body, self._statement(head[4], body), writer))
                if answer:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _statement(self, opcode: int, body: bytes) -> str:
        if opcode in (QUERY, PREPARE):
            return body[4 : 4 + struct.unpack(">i", body[:4])[0]].decode()
        if opcode == EXECUTE:
            return self._statements[body[2:18]]
        return "BATCH" if opcode == BATCH else ""

    def _answer(self, request: Request) -> bytes | None:
        if request.opcode == OPTIONS:
            return request.frame(SUPPORTED, _OFFERED)
        if request.opcode == QUERY:
            return self._system(request)
        if request.opcode == PREPARE:
            return request.frame(RESULT, self._prepare(request.statement))
        if request.opcode not in (EXECUTE, BATCH):
            return request.frame(READY)
        self.seen.append(request.statement)
        for cue in self._cues:
            if request.statement.startswith(cue[0]):
                self._cues.remove(cue)
                return cue[1](request)
        return self._rows(request)

    def _rows(self, request: Request) -> bytes:
        found = re.match(r"SELECT (.*) FROM spam\.(\w+)", request.statement)
        if found is None:
            return request.frame(RESULT, struct.pack(">i", VOID))
        columns = found[1].split(", ")
        if found[2] != "calls":
            return request.frame(RESULT, rows(columns, []))
        state = re.search(rb"\0\0\0\x05page(.)", request.body)
        number = state[1][0] if state else 0
        if number > 0 and self.drops_at_page == number:
            self.drops_at_page = None
            return dropped(request)
        more = b"page" + bytes([number + 1]) if number + 1 < len(self.pages) else None
        return request.frame(RESULT, rows(columns, self.pages[number], more))

    def _prepare(self, statement: str) -> bytes:
        key = md5(statement.encode(), usedforsecurity=False).digest()
        self._statements[key] = statement
        columns = re.findall(r"(\w+)(?: =| >=| <|) \?", statement)
        if inserted := re.search(r"\((.*?)\) VALUES", statement):
            columns = inserted[1].split(", ") + (["TTL"] if "TTL" in statement else [])
        specification = struct.pack(">iii", 1, len(columns), 0) + _columns(columns)
        return struct.pack(">ih", PREPARED, 16) + key + specification + struct.pack(">ii", 4, 0)

    def _system(self, request: Request) -> bytes:
        address = request.writer.get_extra_info("sockname")[0]
        if "peers_v2" in request.statement:
            return failing(INVALID)(request) or b""
        if "FROM system.local" in request.statement:
            found = [self._node(address)]
        elif "FROM system.peers" in request.statement:
            found = [self._node(other) for other in self.addresses if other != address]
        elif request.statement.endswith(".meta"):
            known = [(name.encode(), value.encode()) for name, value in self.meta.items()]
            return request.frame(RESULT, rows(["name", "value"], known))
        else:
            return request.frame(RESULT, rows(["keyspace_name"], []))  # the driver asks for the schema
        return request.frame(RESULT, rows(list(found[0]), [list(one.values()) for one in found]))

    def _node(self, address: str) -> dict[str, bytes]:
        inet = bytes(map(int, address.split(".")))
        token = str(self.addresses.index(address) * 1_000).encode()
        return {
            "peer": inet,
            "rpc_address": inet,
            "broadcast_address": inet,
            "cluster_name": b"fake",
            "data_center": DATA_CENTER.encode(),
            "rack": b"r1",
            "partitioner": b"org.apache.cassandra.dht.Murmur3Partitioner",
            "release_version": b"3.11.0",
            "host_id": UUID(int=inet[3]).bytes,
            "schema_version": UUID(int=1).bytes,
            "tokens": struct.pack(">ii", 1, len(token)) + token,
        }


@asynccontextmanager
async def fake_cluster(size: int = 2) -> AsyncIterator[FakeCluster]:
    """Start the nodes on one free port, and stop them."""
    fake = FakeCluster(size)
    servers = []
    for address in fake.addresses:
        servers.append(await asyncio.start_server(fake.serve, address, fake.port))
        fake.port = servers[0].sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        for server in servers:
            server.close()
        for connection in fake.connections:
            connection.transport.abort()
        await asyncio.sleep(0)  # what was aborted closes in the next turn


def rows(columns: Sequence[str], values: Sequence[Row], state: bytes | None = None) -> bytes:
    """Return a page of rows; `state` says that more follow."""
    flags, paging = (1, b"") if state is None else (3, struct.pack(">i", len(state)) + state)
    head = struct.pack(">iii", ROWS, flags, len(columns)) + paging + _columns(columns)
    cells = (
        b"\xff" * 4 if cell is None else struct.pack(">i", len(cell)) + cell for row in values for cell in row
    )
    return head + struct.pack(">i", len(values)) + b"".join(cells)


def _columns(names: Sequence[str]) -> bytes:
    named = b"".join(_string(name) + _TYPES.get(name, _TEXT) for name in names)
    return _string("spam") + _string("table") + named


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()
