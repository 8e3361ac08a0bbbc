"""The state of a device that ran quantd 0.1, as its daemon left it when it was killed.

`tests/fixtures/state-0.1.tar.xz` was written by commit f656b43, before journal, ledger of switches,
marks and model.json changed, with the small job of `tests/support/scene.py`: two runs in the
foreground, the second with another `model.input.scale`, then a daemon that was killed while it
captured for the command `opt1`, with `opt2` in its queue. Its report.html are left out.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

_ARCHIVE = Path(__file__).parents[1] / "fixtures" / "state-0.1.tar.xz"
FIRST, SECOND = "20261128T175711874-ee07", "20261128T175808771-5ad9"
"""The releases; the second is active."""
UNFINISHED = "20261128T175909870-50bd"


def unpack_state(folder: Path) -> Path:
    """Unpack `state` into a folder and return it."""
    safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.2 has none
    with tarfile.open(_ARCHIVE) as archive:
        archive.extractall(folder, **safe)
    return folder / "state"
