"""Compiles the library into the package when the package is built, also for an editable installation.

Without Rust the package is built without it, says so, and computes the same answers in numpy. With
TAMIS_COMPILED=1 that is an error instead (for whoever builds wheels for others), with 0 it is asked for.
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
        if wanted == "0" or not (wanted or shutil.which("cargo")):
            if not wanted:
                self.app.display_warning("no Rust (cargo): texts will be scored in numpy, more slowly")
            return
        built = self._compile()
        if version == "editable":
            shutil.copyfile(built, in_checkout)
            return
        build_data["force_include"][str(built)] = _PLACE
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"  # no Python is linked, so any will do

    def _compile(self) -> Path:
        source, folder = Path(self.root) / "native", Path(self.root) / "build" / "native"
        cargo = ["cargo", "build", "--quiet", "--release", "--locked", "--offline"]
        subprocess.run(
            [*cargo, "--manifest-path", str(source / "Cargo.toml"), "--target-dir", str(folder)], check=True
        )
        [built] = [path for name in _BUILT if (path := folder / "release" / name).exists()]
        return built
