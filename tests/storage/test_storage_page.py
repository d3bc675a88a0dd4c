from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def test_the_example_of_the_page_runs_as_it_stands(tmp_path: Path):
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    done = subprocess.run(
        [sys.executable, "-c", example[1]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Counters(accepted=1, written=1, spooled=0, dropped=0)" in done.stdout
    assert "'spam': 0.97" in done.stdout
