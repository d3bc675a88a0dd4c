"""Clients that offer HTTP/2 by default or by option, against a real service that speaks HTTP/1.1."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import serving

JAVA = """
import java.net.URI;
import java.net.http.*;

class Ask {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(arguments[0]))
            .header("content-type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString("{\\"text\\": \\"WIN a FREE phone\\"}"))
            .build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.body());
    }
}
"""


@pytest.mark.parametrize("client", ["curl", "java"])
def test_client_that_offers_http_2_gets_its_answer(tmp_path: Path, client: str) -> None:
    if shutil.which(client) is None:
        pytest.skip(f"no {client} here")
    (tmp_path / "Ask.java").write_text(JAVA)
    with serving(tmp_path, "--mock") as service:
        address = f"{service.address}/prediction"
        body = ["-H", "content-type: application/json", "-d", '{"text": "WIN a FREE phone"}']
        commands = {
            "curl": ["curl", "-sS", "--http2", *body, address],
            "java": ["java", str(tmp_path / "Ask.java"), address],
        }
        answer = subprocess.run(commands[client], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(answer.stdout)["top"]["label"]
