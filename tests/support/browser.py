"""Pages in a real Chromium: what axe-core finds, and what a page does by itself."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.parts import missing_part

WIDTHS_PX = (360, 768, 1400)
_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser; the test is skipped with the reason where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        missing_part("chromium", "apt install chromium")
    for package in ("playwright", "axe_playwright_python"):
        if importlib.util.find_spec(package) is None:
            missing_part(package, "pip install -e '.[test]'")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def shown(browser: Any, file: Path, width_px: int, **options: Any) -> Iterator[Any]:
    """Open a file in a window so wide; options are those of a browser's context."""
    viewport = {"width": width_px, "height": 900}
    context = browser.new_context(viewport=viewport, **options)
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        yield page
    finally:
        context.close()


def violations(page: Any) -> str:
    """Return what axe-core finds wrong, in words; empty if nothing is. Needs bypass_csp."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    return found.generate_report() if found.violations_count else ""


def hidden_px(page: Any) -> int:
    """Return by how much the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


_SPLIT = r"""() => {
  const found = []
  for (const cell of document.querySelectorAll("th, td")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) {
      const node = texts.currentNode
      if (node.parentElement.closest(".hidden")) continue
      for (const { 0: word, index } of node.data.matchAll(/\w{2,20}/g)) {
        const range = document.createRange()
        range.setStart(node, index)
        range.setEnd(node, index + word.length)
        if (new Set([...range.getClientRects()].map(one => one.top)).size > 1) found.push(word)
      }
    }
  }
  return found
}"""


def split_words(page: Any) -> list[str]:
    """Return the words in tables that are split over lines, as in a column too narrow for them."""
    return list(page.evaluate(_SPLIT))
