"""Compiles the library into the package when the package is built, also for an editable installation.

Without Rust, or with a cargo that fails, the package is built without the library, with a warning, and
computes the same answers in numpy. TAMIS_COMPILED=1 makes that an error (to build wheels for others),
TAMIS_COMPILED=0 skips the library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLACE = "tamis/native_library.so"
_BUILT = ("libtamis_native.so", "libtamis_native.dylib")


class CompiledLibrary(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the compiled library where `tamis.native` looks for it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the wheel after the platform that it is for."""
        wanted = os.environ.get("TAMIS_COMPILED", "")
        in_checkout = Path(self.root) / "src" / _PLACE
        if version == "editable":
            in_checkout.unlink(missing_ok=True)
        if wanted == "0":
            return
        built = self._compile(is_required=bool(wanted))
        if built is None:
            return
        if version == "editable":
            shutil.copyfile(built, in_checkout)
            return
        build_data["force_include"][str(built)] = _PLACE
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"  # no Python is linked, so any will do

    def _compile(self, *, is_required: bool) -> Path | None:
        """Return the library, or None after a warning if cargo is missing, too old or broken."""
        problem = "no Rust (cargo) found"
        if shutil.which("cargo") is not None:
            try:
                return self._run_cargo()
            except (subprocess.CalledProcessError, OSError) as failed:
                problem = f"cargo failed: {_last_line(failed)}"
        if is_required:
            self.app.abort(f"TAMIS_COMPILED=1, but {problem}")
        self.app.display_warning(f"{problem}; installing without the native library, which is slower")
        return None

    def _run_cargo(self) -> Path:
        source, folder = Path(self.root) / "native", Path(self.root) / "build" / "native"
        cargo = ["cargo", "build", "--quiet", "--release", "--locked", "--offline"]
        where = ["--manifest-path", str(source / "Cargo.toml"), "--target-dir", str(folder)]
        subprocess.run([*cargo, *where], check=True, stderr=subprocess.PIPE)
        [built] = [path for name in _BUILT if (path := folder / "release" / name).exists()]
        return built


def _last_line(failed: subprocess.CalledProcessError | OSError) -> str:
    """Return what cargo said last, or why it could not be started."""
    if isinstance(failed, OSError):
        return failed.strerror or type(failed).__name__
    said = failed.stderr.decode(errors="replace").strip().splitlines()
    return said[-1].strip() if said else f"exit code {failed.returncode}"
