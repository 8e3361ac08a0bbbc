"""A folder with a configuration and frames, as a capture would have stored them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent import config as configuration
from agent.adapters.storage.frames import OpencvFrames
from agent.core.records import CalibrationSet, Digest, Rejected
from agent.wiring import storage
from tests.benchmarks.quality.material import REPOSITORY
from tests.benchmarks.quality.steps import TENSORRT

_DIGEST = Digest("c" * 64)


def lay_out(
    folder: Path,
    settings: Mapping[str, Any],
    frames: Sequence[NDArray[np.uint8]],
    holdout: Sequence[NDArray[np.uint8]],
    scheme: str = TENSORRT,
) -> None:
    """Write what `steps` works on.

    Args:
        folder: Created here.
        settings: Of quantd, by dotted key; `model.card` is relative to the repository.
        frames: That calibrate, HWC uint8.
        holdout: That only judge.
        scheme: Of the INT8 graphs.
    """
    folder.mkdir(parents=True)
    card = settings.get("model.card")
    empty = folder / "quantd.toml"
    empty.write_text(f'[model]\ncard = "{REPOSITORY / card}"\n' if card else "")
    overrides = {key: value for key, value in settings.items() if key != "model.card"}
    overrides["storage.dir"] = str(folder / "state")
    config = configuration.load(empty, overrides=overrides)
    (folder / "config.json").write_bytes(msgspec.json.encode(configuration.dump(config)))
    (folder / "calibration").write_text(_DIGEST)
    (folder / "scheme").write_text(scheme)
    store, names = storage.store(config), {}
    with store.stage(_DIGEST) as work:
        (Path(work) / "frames").mkdir()
        for kind, shown in (("frames", frames), ("holdout", holdout)):
            names[kind] = tuple(f"{kind}-{index:04d}.png" for index in range(len(shown)))
            for name, image in zip(names[kind], shown, strict=True):
                OpencvFrames().write(str(Path(work) / "frames"), name, image)
        height, width = frames[0].shape[:2]
        record = CalibrationSet(
            digest=_DIGEST,
            source="file",
            synthetic=False,
            width=width,
            height=height,
            frames=names["frames"],
            holdout=names["holdout"],
            seen=len(frames) + len(holdout),
            lost=0,
            rejected=Rejected(),
        )
        store.keep(_DIGEST, work, record)
