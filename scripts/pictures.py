"""Make the README's pictures from the program itself: docs/images/terminal.svg and docs/images/page.png.

    python scripts/pictures.py data/sms-spam.csv

The terminal is what real commands print, drawn by rich; the page is a real service in headless Chromium.
Needs `make install`, and for the page Chromium with its driver (`scripts/tools.sh browser`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLUMNS = 80
EXAMPLE = "WIN a FREE phone! Call 0800 111 222 now"
COMMANDS = [
    ["tamis", "train", "data.csv", "-o", "models/spam"],
    ["tamis", "predict", "models/spam", EXAMPLE, "see you at six"],
    ["tamis", "explain", "models/spam", EXAMPLE],
]
# rich's own format with the system's monospaced font: its default loads one from another site.
SVG_FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def main() -> None:
    """Train in a temporary folder on the file that is named, and make both pictures."""
    data = Path(sys.argv[1]).resolve()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data.csv").symlink_to(data)
        draw_terminal([(command, output_of(command, folder)) for command in COMMANDS])
        photograph_page(folder)


def output_of(command: list[str], folder: Path) -> str:
    """Run a command of this environment as on a terminal with colours; return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    run = subprocess.run(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return run.stdout


def draw_terminal(session: list[tuple[list[str], str]]) -> None:
    """Draw commands and their output, each output cut to its first lines."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), highlight=False)  # noqa: SIM115
    for command, output in session:
        words = [f'"{word}"' if " " in word else word for word in command]
        console.print(Text("> " + " ".join(words), style="bold green"))
        lines = [line for line in output.rstrip().splitlines() if _plain(line).strip()]
        console.print(Text.from_ansi("\n".join(lines[:14])))
        console.print()
    console.save_svg(str(IMAGES / "terminal.svg"), title="tamis", code_format=SVG_FORMAT, unique_id="tamis")


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def photograph_page(folder: Path) -> None:
    """Serve the model, classify the example on the page, and save what the browser shows."""
    command = [sys.executable, "-m", "tamis", "serve", "models/spam", "--port", "0", "--store", "memory:"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        try:
            found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in service.stderr)
            _photograph(next(match[0] for match in found if match))
        finally:
            service.terminate()


def _photograph(address: str) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1100,1280", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver") or ""))
    try:
        browser.get(f"{address}/ui")
        text = browser.find_element(By.ID, "text")
        text.send_keys(EXAMPLE)
        text.send_keys(Keys.CONTROL, Keys.ENTER)
        wait = WebDriverWait(browser, 20)
        wait.until(lambda page: page.find_element(By.ID, "answer").is_displayed())
        browser.find_element(By.ID, "explain").click()
        wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".explained"))
        browser.execute_script("scrollTo(0, 0)")
        browser.save_screenshot(str(IMAGES / "page.png"))
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
