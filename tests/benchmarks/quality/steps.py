"""The stages of `quantd optimize` up to the INT8 graphs, on given frames instead of a camera's.

    python -m tests.benchmarks.quality.steps intake FOLDER
    python -m tests.benchmarks.quality.steps quantize FOLDER WHICH

works on a folder that `layout.lay_out` made and prints one JSON object. `intake` writes the clean
model, and the npz files that the peers and the evaluator read; `quantize` makes the graphs of one
candidate or of all in a precision. Every stage is a child process, as in a run; the CPU time and the memory are those of
these children. Like the daemon, this process loads no numpy and no runtime while it measures.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from agent import config as configuration
from agent.adapters.host.clock import SystemClock
from agent.adapters.host.jobs import SubprocessJobs
from agent.config import Config
from agent.core.errors import QuantdError
from agent.core.records import CalibrationSet, Candidate, CleanModel
from agent.run.chain import Chain
from agent.wiring import storage

TENSORRT, CPU = "S8S8", "U8S8"
"""Schemes: TensorRT's, as the peers quantize, and that of ONNX Runtime on a CPU.

Nothing here can time a layer as TensorRT executes it, and this CPU is far slower with TensorRT's
scheme. So with that scheme layers weigh by their compute, as in a build for another device.
"""
_ELSEWHERE = "8.7"  # the compute capability of an Orin


@dataclass
class MeasuredJobs:
    """The Jobs port, with the time of each child process.

    Attributes:
        spent: Kind, wall and CPU seconds of every job so far.
    """

    jobs: SubprocessJobs = field(default_factory=SubprocessJobs)
    spent: list[dict[str, Any]] = field(default_factory=list)

    def run(self, spec: Any, *, progress: Any, cancelled: threading.Event) -> Any:
        """Run a job; see `ports.Jobs`."""
        begin, cpu_s = time.monotonic(), children_cpu_s()
        try:
            return self.jobs.run(spec, progress=progress, cancelled=cancelled)
        finally:
            self.spent.append(
                {
                    "kind": spec.kind,
                    "wall_s": round(time.monotonic() - begin, 2),
                    "cpu_s": round(children_cpu_s() - cpu_s, 2),
                }
            )


def children_cpu_s() -> float:
    """Return the CPU seconds of all children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Driver:
    """Runs the stages of one folder.

    Args:
        folder: Made by `layout.lay_out`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        config = configuration.from_dump(json.loads((folder / "config.json").read_bytes()))
        self._scheme = (folder / "scheme").read_text()
        if self._scheme == TENSORRT:
            runtime = structs.replace(config.runtime, compute_capability=_ELSEWHERE)
            config = structs.replace(config, runtime=runtime)
        self.config: Config = config
        self.jobs = MeasuredJobs()
        self._store = storage.store(self.config)
        self._chain = Chain(
            config=self.config,
            run_id="benchmark",
            store=self._store,
            jobs=self.jobs,
            clock=SystemClock(),
            history=(),
            observe=lambda *_: None,
            cancelled=threading.Event(),
        )
        digest = (folder / "calibration").read_text()
        found = self._store.get(digest, CalibrationSet)
        assert found is not None, "the frames are no longer stored"
        self.calibration = found

    def model(self) -> CleanModel:
        """Return the clean model, which the first call makes."""
        return self._chain.intake()

    def directory(self, digest: str) -> Path:
        """Return the folder of an artifact."""
        return Path(self._store.directory(digest))

    def quantized(self, which: str) -> Iterator[tuple[Candidate, list[dict[str, Any]]]]:
        """Yield candidates with their graphs or failures, and the jobs that each took.

        Args:
            which: A candidate's id, or a precision for all in it.
        """
        model = self.model()
        platform = replace(self._chain.platform(), scheme=self._scheme)
        for one in self._chain.candidates(platform, model):
            if which in (one.id, one.recipe.precision):
                self.jobs.spent = []  # the intake and the platform are no part of quantizing
                for made in self._chain.quantized([one], platform, model, self.calibration):
                    yield made, self.jobs.spent
                    self.jobs.spent = []


def intake(folder: Path) -> dict[str, Any]:
    """Write the clean model, and its inputs for calibration and judging as npz."""
    driver = Driver(folder)
    clean = driver.model()
    made = driver.directory(clean.digest)
    for file in made.glob("model.onnx*"):
        shutil.copyfile(file, folder / file.name)
    _write_inputs(folder, driver, clean)
    return {"macs": clean.macs, "changes": list(clean.changes)}


def _write_inputs(folder: Path, driver: Driver, clean: CleanModel) -> None:
    import numpy as np

    from agent.jobs import frames

    taken, place = driver.calibration, driver.directory(driver.calibration.digest)
    for kind, names in (("calibration", taken.frames), ("holdout", taken.holdout)):
        feeds = frames.tensors(driver.config, clean, place, names)
        np.savez(
            folder / f"{kind}.npz",
            **{f"{i:04d}": array for i, feed in enumerate(feeds) for array in feed.values()},
        )


def quantize(folder: Path, which: str) -> dict[str, Any]:
    """Make graphs; stages that an earlier call or candidate made are not made again."""
    driver = Driver(folder)
    found = {}
    for made, jobs in driver.quantized(which):
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
        found[made.id] = {"jobs": jobs, "peak_rss_mb": round(peak_mb, 1)}
        if made.quantized is None:
            found[made.id]["failed"] = made.failure
        else:
            graph = driver.directory(made.quantized.digest) / "model.onnx"
            found[made.id] |= {"graph": str(graph), "record": asdict(made.quantized)}
    return {"made": found} if found else {"failed": f"there is no candidate {which}"}


STEPS: dict[str, Callable[..., dict[str, Any]]] = {"intake": intake, "quantize": quantize}


def main(arguments: list[str]) -> None:
    """Run one step."""
    step, folder, *rest = arguments
    try:
        found = STEPS[step](Path(folder), *rest)
    except QuantdError as e:
        found = {"failed": e.message}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
