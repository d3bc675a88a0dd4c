"""Every promise of SECURITY.md names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PROOF = re.compile(r"\| `(tests/[\w/]+\.py)(?:::(\w+))?` \|$", re.MULTILINE)


def test_security_page_names_tests_that_exist() -> None:
    page = (ROOT / "SECURITY.md").read_text("utf-8")
    proofs = _PROOF.findall(page)
    assert len(proofs) == page.count("| `tests/")
    for file, name in proofs:
        source = (ROOT / file).read_text("utf-8")
        assert not name or f"def {name}(" in source, f"{file}::{name}"
