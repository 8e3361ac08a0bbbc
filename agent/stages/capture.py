"""Capture of frames from the live camera, spread over the window and covering the scene."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from pathlib import Path

from agent.config import Calibration
from agent.core.errors import CalibrationError, CameraError
from agent.core.frames.frame import Frame
from agent.core.frames.reservoir import Reservoir
from agent.core.frames.selection import (
    frame_features,
    rejection_reason,
    split_counts,
    split_holdout,
)
from agent.core.records import CalibrationSet, Digest, Rejected
from agent.ports import Camera, Clock, FrameStore, Progress

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 60.0  # for one frame: a network camera that restarts takes most of a minute
_CONSIDERED = 4  # frames per frame wanted, evenly over the window
_POOL = 2  # candidates on the disk per frame wanted
_RETRY = 4  # divides the time to the next frame after a rejected one
_LEAST_FRAMES = 8
_LEAST_SHARE = 4  # at least a quarter of the frames wanted
_TICK_NS = 100_000_000  # unit of progress
_PROGRESS_TICKS = 5

_CURES = {
    "exposure": "the picture is black, blown out or empty: check the lens cap, light and exposure",
    "blur": "the picture is blurred most of the time: check focus and mounting",
    "duplicate": "the scene is static: lengthen calibration.window_s, or capture while it moves",
}


def least_frames(wanted: int) -> int:
    """Return the least number of usable frames: a quarter of those wanted, at least 8."""
    return min(wanted, max(_LEAST_FRAMES, -(-wanted // _LEAST_SHARE)))


def capture(
    settings: Calibration,
    *,
    digest: Digest,
    work: str,
    camera: Camera,
    live: bool,
    frames: FrameStore,
    clock: Clock,
    seed: int,
    progress: Progress,
) -> CalibrationSet:
    """Read the camera for window_s and keep the frames that cover the scene.

    A window with too few usable frames is extended up to twice its length. If a quarter of the
    wanted ones (at least 8) is then reached, the result has fewer frames in the same ratio. A static
    scene has near-duplicates only: these are used, with a warning in the log that the held-out
    frames are not independent. A live camera's noise makes each of them another picture; if the
    pictures repeat, the camera is frozen.

    Args:
        settings: Numbers of frames, and the window.
        digest: Identity of the result.
        work: Directory for frames/*.png, named by sequence number.
        camera: Entered already.
        live: Whether it shows what is before it now; the pictures of a recording may repeat.
        frames: Stores the pictures.
        clock: Monotonic.
        seed: Of the selection; the same candidates and seed give the same result.
        progress: Called at most twice a second, in tenths of a second of the window.

    Raises:
        CalibrationError: "too_few_frames", with the numbers of read, rejected and needed frames.
        CameraError: if no frame arrives for a minute; "frozen" if a live camera's pictures repeat.
        StoreError: if the disk is full.
    """
    captured = clock.utc()
    watch = _CaptureWindow(settings, str(Path(work, "frames")), camera, live, frames, clock)
    watch.run(progress)
    chosen, held_out = watch.chosen(settings, seed)
    kept = {*chosen, *held_out}
    watch.tidy(kept)
    return CalibrationSet(
        digest=digest,
        source=camera.source,
        synthetic=camera.synthetic,
        width=watch.width,
        height=watch.height,
        frames=chosen,
        holdout=held_out,
        seen=watch.seen,
        lost=camera.lost,
        rejected=Rejected(**watch.rejected),
        origins={name: watch.origins[name] for name in (*chosen, *held_out) if watch.origins[name]},
        captured=captured,
        distinct=watch.distinct(len(kept)),
    )


class _CaptureWindow:
    """One capture. Pictures are on the disk, their features in memory."""

    def __init__(
        self,
        settings: Calibration,
        folder: str,
        camera: Camera,
        live: bool,
        frames: FrameStore,
        clock: Clock,
    ) -> None:
        self.seen = 0
        self.width = self.height = 0
        self.rejected: Counter[str] = Counter()
        self.origins: dict[str, str] = {}
        self._folder = folder
        self._camera = camera
        self._live = live
        self._pictures: set[bytes] = set()  # their digests; and those of the ones kept at any time
        self._kept: set[bytes] = set()
        self._frames = frames
        self._clock = clock
        self._wanted = settings.frames + settings.holdout
        self._least = least_frames(self._wanted)
        self._window_ns = int(settings.window_s * 1e9)
        self._pool = Reservoir(_POOL * self._wanted)
        self._near_duplicates: list[str] = []  # for a static scene
        self._near_duplicate_due_ns = 0

    def run(self, progress: Progress) -> None:
        """Consider frames until the end of the window, which is extended if needed."""
        begin_ns: int | None = None
        limit_ns, period_ns = self._window_ns, self._window_ns // (_CONSIDERED * self._wanted)
        due_ns = progress_due = 0
        while True:
            try:
                frame = self._camera.read(_PATIENCE_S)
            except CameraError as e:
                if e.code != "ended":
                    raise
                break  # the end of a recording: use its frames
            now_ns = self._clock.monotonic_ns()
            begin_ns = now_ns if begin_ns is None else begin_ns
            spent_ns = now_ns - begin_ns
            if spent_ns >= limit_ns and len(self._pool.names) < self._wanted:
                limit_ns = 2 * self._window_ns
            if spent_ns >= limit_ns:
                break
            if spent_ns >= due_ns:
                kept = self._consider(frame, spent_ns)
                due_ns = spent_ns + (period_ns if kept else period_ns // _RETRY)
            if spent_ns // _TICK_NS >= progress_due:
                progress(spent_ns // _TICK_NS, limit_ns // _TICK_NS, self._note())
                progress_due = spent_ns // _TICK_NS + _PROGRESS_TICKS
        for name in self._pool.drop_blurred():
            self._frames.remove(self._folder, name)
            self.rejected["blur"] += 1
        progress(limit_ns // _TICK_NS, limit_ns // _TICK_NS, self._note())

    def chosen(self, settings: Calibration, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the calibration frames and of the held-out ones.

        Raises:
            CalibrationError: "too_few_frames".
            CameraError: "frozen".
        """
        names = self._pool.names
        if len(names) >= self._least:
            split = split_holdout(self._pool.signatures, settings.frames, settings.holdout, seed)
            chosen, held_out = (tuple(names[index] for index in side) for side in split)
        elif names and len(names) + len(self._near_duplicates) >= self._least:
            chosen, held_out = self._static(settings)
        elif self._live and self._worst == "duplicate" and len(self._pictures) < self._least:
            raise self._frozen()
        else:
            raise self._too_few()
        if len(chosen) + len(held_out) < self._wanted:
            _LOG.warning(
                "fewer_frames_than_wanted frames=%d of %d, holdout=%d of %d, %s",
                len(chosen), settings.frames, len(held_out), settings.holdout, self._note(),
            )  # fmt: skip
        return chosen, held_out

    def distinct(self, kept: int) -> int:
        """Return how many of the frames kept differ by more than noise."""
        return min(kept, len(self._pool.names))

    def tidy(self, keep: set[str]) -> None:
        """Remove the pictures that were not chosen."""
        for name in (*self._pool.names, *self._near_duplicates):
            if name not in keep:
                self._frames.remove(self._folder, name)

    def _consider(self, frame: Frame, spent_ns: int) -> bool:
        """Add a frame to the pool and return True, or count why it is rejected."""
        self.seen += 1
        self.height, self.width = frame.image.shape[:2]
        features = frame_features(frame.image)
        name = f"{frame.sequence:08d}.png"
        self.origins[name] = frame.origin
        reason = rejection_reason(features.quality, self._pool.usual_detail)
        if not reason:
            picture = hashlib.blake2b(frame.image.tobytes(), digest_size=16).digest()
            self._pictures.add(picture)
            if not self._pool.is_duplicate(features.signature):
                self._kept.add(picture)
            else:
                reason = "duplicate"
                if not (self._live and picture in self._kept):
                    self._keep_near_duplicate(name, frame, picture, spent_ns)
        if reason:
            self.rejected[reason] += 1
            return False
        leaving = self._pool.add(name, features)
        if leaving != name:
            self._frames.write(self._folder, name, frame.image)
            if leaving is not None:
                self._frames.remove(self._folder, leaving)
        return True

    def _keep_near_duplicate(self, name: str, frame: Frame, picture: bytes, spent_ns: int) -> None:
        """Keep near-duplicates of a scene that is static so far, evenly over the window."""
        few = max(len(self._pool.names), len(self._near_duplicates)) < self._least
        if few and spent_ns >= self._near_duplicate_due_ns:
            self._frames.write(self._folder, name, frame.image)
            self._near_duplicates.append(name)
            self._kept.add(picture)
            self._near_duplicate_due_ns = spent_ns + self._window_ns // (2 * self._least)

    def _static(self, settings: Calibration) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return all distinct frames for calibration, and near-duplicates for the rest."""
        names, duplicates = self._pool.names, self._near_duplicates
        total = min(self._wanted, len(names) + len(duplicates))
        held_out = min(split_counts(total, settings.frames, settings.holdout)[1], len(duplicates))
        filled = total - held_out - len(names)
        used = duplicates[: filled + held_out]
        self.rejected["duplicate"] -= len(used)
        _LOG.warning(
            "static_scene distinct=%d near_duplicates=%d: held-out frames are nearly the same as"
            " the calibration frames",
            len(names), len(used),
        )  # fmt: skip
        return names + tuple(used[:filled]), tuple(used[filled:])

    def _note(self) -> str:
        return f"kept {len(self._pool.names)}, rejected {self.rejected.total()}"

    @property
    def _worst(self) -> str:
        """Return the most frequent reason of rejection, "" if there is none."""
        return next((reason for reason, _ in self.rejected.most_common(1)), "")

    def _frozen(self) -> CameraError:
        pictures = len(self._pictures)
        return CameraError(
            f"{self._camera.source}: only {pictures} different picture{'s' * (pictures > 1)} in "
            f"{self.seen} frames: the camera is frozen",
            code="frozen",
            hint="restart the camera or its stream; before a still scene the noise of a working "
            "sensor makes every frame different",
        )

    def _too_few(self) -> CalibrationError:
        counts = ", ".join(f"{count} {why}" for why, count in sorted(self.rejected.items()))
        return CalibrationError(
            f"{len(self._pool.names)} of {self.seen} frames are usable"
            f" (rejected: {counts or 'none'}); at least {self._least} are needed"
            f" of the {self._wanted} wanted",
            code="too_few_frames",
            hint=_CURES.get(self._worst, "lengthen calibration.window_s"),
        )
