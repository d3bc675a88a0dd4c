"""An Astra database as a client sees it: a secure bundle, a metadata service and a TLS-only proxy.

Its proxy looks at the server name that a client asks for, and passes on to the node of that id.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"


@dataclass
class Endpoint:
    """What the service answers, and what it was asked."""

    bundle: Path
    nodes: Mapping[str, tuple[str, int]]
    """By host id: where the node really is."""
    local_dc: str
    status: int = 200
    passed_on: int = 0
    port: int = 0
    connections: list[asyncio.StreamWriter] = field(default_factory=list)

    async def metadata(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        contact = {
            "type": "sni_proxy",
            "local_dc": self.local_dc,
            "contact_points": list(self.nodes),
            "sni_proxy_address": f"{HOST}:{self.port}",
        }
        body = json.dumps({"version": 1, "contact_info": contact}).encode()
        head = f"HTTP/1.1 {self.status} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = getattr(writer.get_extra_info("ssl_object"), "asked_for", None)
        if name not in self.nodes:
            writer.close()
            return
        self.passed_on += 1
        there, to_node = await asyncio.open_connection(*self.nodes[name])
        self.connections += [writer, to_node]
        await asyncio.gather(_pump(reader, to_node), _pump(there, writer))


@asynccontextmanager
async def astra_endpoint(
    folder: Path, nodes: Mapping[str, tuple[str, int]], local_dc: str
) -> AsyncIterator[Endpoint]:
    """Make certificates and a bundle in `folder` and serve until the block ends."""
    _certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    context.load_verify_locations(folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED  # the bundle's certificate is asked for, as Astra does
    context.sni_callback = _remember_name
    endpoint = Endpoint(folder / "bundle.zip", nodes, local_dc)
    metadata = await asyncio.start_server(endpoint.metadata, HOST, 0, ssl=context)
    proxy = await asyncio.start_server(endpoint.proxy, HOST, 0, ssl=context)
    endpoint.port = proxy.sockets[0].getsockname()[1]
    config = {"host": HOST, "port": metadata.sockets[0].getsockname()[1], "localDC": local_dc}
    with zipfile.ZipFile(endpoint.bundle, "w") as bundle:
        bundle.writestr("config.json", json.dumps(config))
        for name in ("ca.crt", "cert", "key"):
            bundle.write(folder / name, name)
    try:
        yield endpoint
    finally:
        metadata.close()
        proxy.close()
        for connection in endpoint.connections:
            connection.transport.abort()
        await asyncio.sleep(0)  # what was aborted closes in the next turn


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(65_536):
            writer.write(some)
            await writer.drain()
    except ConnectionError:
        pass  # the other side has gone: there is nobody to tell
    finally:
        writer.close()


def _remember_name(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    connection.asked_for = name  # type: ignore[attr-defined]


def _certificates(folder: Path) -> None:
    """Make an authority and one certificate that serves both sides."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(
        *["req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca"],
        *["-addext", "keyUsage=critical,keyCertSign"],
    )
    openssl("req", *curve, "-keyout", "key", "-out", "request", "-subj", f"/CN={HOST}")
    openssl(
        *["x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"],
        *["-out", "cert", "-days", "2"],
    )
