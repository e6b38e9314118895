"""Makes ``docs/console.png`` from a demo that is poisoned and saves itself: ``make pictures``. Wants Chromium."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
_SIZE = {"width": 1280, "height": 860}


def main() -> None:
    """Run the demo, wait until the guard has saved it, and look."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "said.txt"
        command = [
            sys.executable,
            "-m",
            "stream.cli",
            "demo",
            "--dir",
            f"{folder}/shop",
            "--seconds",
            "90",
            "--poison",
            "15",
        ]
        with log.open("w") as out:
            demo = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603  our own command
        try:
            while demo.poll() is None and not re.search("UNDONE|OVER", log.read_text()):
                time.sleep(1)
            time.sleep(12)
            found = re.search(r"http://127\.0\.0\.1:\d+/;", log.read_text())
            if found is None:
                sys.exit(f"the demo said:\n{log.read_text()}")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
                )
                page = browser.new_page(viewport=_SIZE)  # type: ignore[arg-type]
                page.goto(found[0].rstrip(";"))
                page.wait_for_selector("body[data-ready]")
                page.select_option("#span", "300")
                page.wait_for_timeout(3000)
                page.screenshot(path=str(ROOT / "docs" / "console.png"))
                browser.close()
        finally:
            demo.terminate()
            demo.wait(30)


if __name__ == "__main__":
    main()
