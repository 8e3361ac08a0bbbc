"""The picture of a report in the README, from a run's own page.

python -m tests.page.screenshot quantd-demo/report.html tests/page/report.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.browser import chromium, shown

_WIDTH_PX, _HEIGHT_PX = 1200, 1150


def main() -> None:
    """Write the upper part of the page, as a light screen shows it."""
    source, target = map(Path, sys.argv[1:3])
    with (
        chromium() as browser,
        shown(browser, source.absolute(), _WIDTH_PX, color_scheme="light") as page,
    ):
        clip = {"x": 0, "y": 0, "width": _WIDTH_PX, "height": _HEIGHT_PX}
        page.screenshot(path=target, clip=clip, full_page=True)


if __name__ == "__main__":
    main()
