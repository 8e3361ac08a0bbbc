"""Frames from the camera, spread over the window, the bad ones counted and left out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.config import Calibration
from agent.core.calibration import (
    DUPLICATE,
    distances,
    most_redundant,
    quality,
    rejection,
    signature,
    split,
)
from agent.core.errors import CalibrationError, CameraError
from agent.core.lineage import CalibrationSet, Digest, Rejected
from agent.ports import Camera, Clock, FrameStore, Progress

_LOG = logging.getLogger(__name__)
_READ_S = 10.0  # patience for one frame, the camera's reconnecting included
_POOL = 2  # candidates kept on disk, as a multiple of the frames wanted
_LEAST_SHARE = 0.25  # of the frames wanted, under which calibrating makes no sense
_LEAST_FRAMES = 8
_THUMBNAILS = 12
_RECENT = 200  # frames whose sharpness is the usual one


@dataclass(slots=True)
class _Pool:
    """The best-covering frames so far: pictures on disk, signatures in memory, both bounded."""

    limit: int
    names: list[str] = field(default_factory=list)
    signatures: list[NDArray[np.float32]] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)

    def duplicate(self, one: NDArray[np.float32]) -> bool:
        if not self.signatures:
            return False
        return bool(distances(one, np.stack(self.signatures)).min() < DUPLICATE)

    def overflow(self) -> str | None:
        """Take out the most redundant frame if there is one too many; return its name."""
        if len(self.names) <= self.limit:
            return None
        index = most_redundant(np.stack(self.signatures))
        del self.signatures[index]
        return self.names.pop(index)


def capture(
    settings: Calibration,
    *,
    digest: Digest,
    work: str,
    camera: Camera,
    frames: FrameStore,
    clock: Clock,
    seed: int,
    progress: Progress,
) -> CalibrationSet:
    """Watch the camera for window_s and keep the frames that cover the scene.

    A window that ends with too few good frames is extended to twice its length. Fewer frames
    than wanted are taken, in the same proportion, down to a quarter of them.

    Args:
        settings: How many frames, and the window.
        digest: Identity of the result.
        work: Filled with frames/*.png and thumbnails/*.jpg.
        camera: Entered already.
        frames: Writes pictures.
        clock: Monotonic.
        seed: Settles ties, so that the same candidates give the same choice.
        progress: Told ten times a second at most.

    Raises:
        CalibrationError: "too_few_frames", saying what was seen and turned away.
        CameraError: if the camera is gone for good.
    """
    wanted = settings.frames + settings.holdout
    pool = _Pool(limit=_POOL * wanted)
    turned_away: Counter[str] = Counter()
    begin = clock.monotonic_ns()
    window_ns = int(settings.window_s * 1e9)
    folder = Path(work, "frames")
    seen = 0
    width = height = 0
    while True:
        spent = clock.monotonic_ns() - begin
        if spent >= (window_ns if len(pool.names) >= wanted else 2 * window_ns):
            break
        try:
            frame = camera.read(_READ_S)
        except CameraError as error:
            if error.code == "ended":
                break
            raise
        seen += 1
        height, width = frame.image.shape[:2]
        reason = _judge(frame.image, frames, pool)
        if reason:
            turned_away[reason] += 1
        else:
            name = f"{frame.sequence:08d}.png"
            frames.write(str(folder), name, frame.image)
            pool.names.append(name)
            dropped = pool.overflow()
            if dropped:
                (folder / dropped).unlink()
        note = f"kept {len(pool.names)}, rejected {turned_away.total()}"
        progress(min(spent, window_ns) // 100_000_000, window_ns // 100_000_000, note)
    _check(len(pool.names), wanted, seen, turned_away)
    chosen, held_out = split(np.stack(pool.signatures), settings.frames, settings.holdout, seed)
    kept = {
        "frames": tuple(pool.names[index] for index in chosen),
        "holdout": tuple(pool.names[index] for index in held_out),
    }
    _tidy(folder, kept["frames"] + kept["holdout"], frames)
    if len(chosen) < settings.frames or len(held_out) < settings.holdout:
        _LOG.warning(
            "fewer_frames wanted=%d+%d kept=%d+%d",
            settings.frames,
            settings.holdout,
            len(chosen),
            len(held_out),
        )
    return CalibrationSet(
        digest=digest,
        source=camera.source,
        synthetic=camera.synthetic,
        width=width,
        height=height,
        **kept,
        seen=seen,
        lost=camera.lost,
        rejected=Rejected(**turned_away),
    )


def _judge(image: NDArray[np.uint8], frames: FrameStore, pool: _Pool) -> str:
    """Return why a frame is turned away; a good one's signature is put into the pool."""
    small, luma = frames.small(image)
    seen = quality(luma)
    usual = float(np.median(pool.sharpness)) if pool.sharpness else None
    reason = rejection(seen, usual)
    if reason:
        return reason
    one = signature(small)
    if pool.duplicate(one):
        return "duplicate"
    pool.signatures.append(one)
    pool.sharpness = [*pool.sharpness[-_RECENT:], seen.sharpness]
    return ""


def _check(kept: int, wanted: int, seen: int, turned_away: Counter[str]) -> None:
    least = min(wanted, max(2, min(_LEAST_FRAMES, wanted), round(_LEAST_SHARE * wanted)))
    if kept >= least:
        return
    reasons = ", ".join(f"{count} for {why}" for why, count in sorted(turned_away.items()))
    cures = {
        "exposure": "the picture is black or blown out: check the lens cap and the light",
        "blur": "the picture is blurred: check the focus",
        "duplicate": "nothing moves: lengthen calibration.window_s or capture a livelier scene",
    }
    worst = turned_away.most_common(1)
    raise CalibrationError(
        f"{kept} usable frames of {seen} seen, {least} needed at least"
        + (f"; turned away: {reasons}" if reasons else ""),
        code="too_few_frames",
        hint=cures[worst[0][0]] if worst else "lengthen calibration.window_s",
    )


def _tidy(folder: Path, kept: tuple[str, ...], frames: FrameStore) -> None:
    """Remove the frames that were not chosen; make thumbnails of some that were."""
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    for name in kept[:_THUMBNAILS]:
        frames.thumbnail(str(folder / name), str(folder.parent / "thumbnails"))
