"""The picture of the README: the viewer on the demo's comparisons, in Chromium. Run it after `make demo`.

It shows the comparison that the README has in full.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from almost_data.cli import app

IMAGES = Path(__file__).parent / "pages" / "images"
SIZE = {"width": 1280, "height": 760}


def viewer(ref: str, row: str) -> None:
    """Photograph the page of `view REF` at a row."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "view.html"
        app.main(["view", ref, "-o", str(page)])
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_page(viewport=SIZE, color_scheme="light")
        tab.goto(f"{page.as_uri()}#row={row}")
        tab.wait_for_timeout(500)
        tab.screenshot(path=IMAGES / "viewer.png")
        browser.close()


if __name__ == "__main__":
    viewer("comparisons@0.1.0", "5d188ea6e180e64c-f98c5f51c90236f0")
