"""Write the settings into .env.sample and docs/serving.md, each with its default and its description."""

from __future__ import annotations

import re
from pathlib import Path

from tamis.settings import Settings
from tamis.settings_source import extra, variables

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Rewrite both files."""
    rows = []
    for name, field in Settings.model_fields.items():
        if extra(field)["instead"]:
            continue
        variable, *older = variables(name, field)
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        rows.append((variable, default, f"{field.description}" + (f" (or {older[0]})" if older else "")))
    sample = ROOT / ".env.sample"
    head = sample.read_text("utf-8").split("\n\n")[0]
    lines = [f"# {meaning}\n#{variable}={default}" for variable, default, meaning in rows]
    sample.write_text("\n\n".join([head, *lines]) + "\n", "utf-8")
    page = ROOT / "docs" / "serving.md"
    text = page.read_text("utf-8")
    table = "".join(
        f"| `{variable}` | {f'`{default}` ' if default else ''}| {meaning} |\n"
        for variable, default, meaning in rows
    )
    page.write_text(re.sub(r"(\| `TAMIS_\w+` \|.*\n)+", lambda _: table, text, count=1), "utf-8")


if __name__ == "__main__":
    main()
