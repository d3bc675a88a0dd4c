"""The command line keeps OpenBLAS from starting threads that only wait for one another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from pathlib import Path
from tamis.cli import main
sys.argv = ["tamis", "--version"]
try:
    main()
except SystemExit:
    pass
import numpy as np
np.ones((300, 300)) @ np.ones((300, 300))
print(Path("/proc/self/status").read_text().partition("Threads:")[2].split()[0], file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
@pytest.mark.parametrize(("chosen", "threads"), [(None, "1"), ("2", "2")])
def test_command_line_runs_openblas_on_one_thread(chosen: str | None, threads: str):
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    if chosen is not None:
        environment["OPENBLAS_NUM_THREADS"] = chosen
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stderr.strip() == threads
