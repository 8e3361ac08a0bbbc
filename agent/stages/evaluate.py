"""Memory and fidelity of an engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.core.errors import RunnerError
from agent.core.fidelity.comparison import Comparison
from agent.core.records import Digest, Engine, Evaluation
from agent.ports import EngineRunner, Progress

if TYPE_CHECKING:
    from agent.ports import Tensors

_MEMORY_RUNS = 3
_NO_DEVICE_MEMORY = "ONNX Runtime does not report how much of the GPU's memory an engine takes"


def evaluate(
    engine: Engine,
    *,
    digest: Digest,
    make_runner: Callable[[], EngineRunner],
    make_baseline: Callable[[], EngineRunner],
    tensors: Callable[[], Iterable[Tensors]],
    comparison: Callable[[], Comparison],
    memory: Callable[[], int],
    progress: Progress,
) -> Evaluation:
    """Compare an engine with the FP32 baseline on held-out frames.

    Args:
        engine: The engine to evaluate; its files are known to make_runner.
        digest: Identity of the result.
        make_runner: Returns the engine's runner, not yet entered.
        make_baseline: Returns the baseline's runner.
        tensors: Returns an iterator over all held-out inputs.
        comparison: Returns an empty one for the model's task; called after the memory was read,
            which labels would take part of.
        memory: Returns the resident memory of this process, bytes. It grows by the engine and its
            runtime, since inputs are read before the engine is loaded and the baseline is loaded
            after it has run; use a new process. The runner's device memory is added.
        progress: Called after every inference.

    Raises:
        RunnerError: "no_frames" if there are fewer held-out frames than the batch; other codes
            if the engine doesn't load or run, or its outputs can't be compared.
    """
    first = list(islice(tensors(), _MEMORY_RUNS))
    if not first:
        raise RunnerError(
            f"fewer held-out frames than the batch of {engine.batch}",
            code="no_frames",
            hint="raise calibration.holdout",
        )
    before = memory()
    with make_runner() as runner:
        for inputs in first:
            infer(runner, inputs)
        grown = memory() - before
        on_device = runner.device_bytes()
        del first, inputs
        compared = comparison()
        with make_baseline() as baseline:
            for done, inputs in enumerate(tensors(), start=1):
                compared.add(infer(baseline, inputs), infer(runner, inputs), engine.batch)
                progress(done, 0, "")
    return Evaluation(
        digest=digest,
        engine=engine.digest,
        fidelity=compared.result(),
        identical=compared.identical,
        memory_mb=None if on_device is None else round((max(grown, 0) + on_device) / 1e6, 1),
        memory_reason=_NO_DEVICE_MEMORY if on_device is None else "",
    )


def infer(runner: EngineRunner, inputs: Tensors) -> dict[str, Any]:
    """Return the outputs of one inference."""
    runner.bind(inputs)
    runner.run()
    return runner.outputs()


def check_release(
    folder: Path,
    make: Callable[[Mapping[str, Any], Path], EngineRunner],
    refusal: Callable[[Mapping[str, object]], str],
) -> None:
    """Load a release as an application would and run it once on a black frame.

    Args:
        folder: The release's directory.
        make: Returns a runner for `runtime` of model.json and the engine's path.
        refusal: Returns why an engine for `runtime` of model.json must not be loaded here; empty if
            it may.

    Raises:
        RunnerError: "bad_release" if a file is missing or damaged; "other_device" if it was built
            for another device; other codes if it doesn't run.
    """
    try:
        facts = json.loads((folder / "model.json").read_bytes())
        engine = folder / Path(facts["engine"]["file"]).name
        seen = hashlib.sha256(engine.read_bytes()).hexdigest()
        made_for = dict(facts["runtime"])
        inputs = {
            one["name"]: np.zeros([facts["batch"], *one["shape"][1:]], one["dtype"])
            for one in facts["inputs"]
        }
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise RunnerError(f"release {folder.name}: {e}", code="bad_release") from e
    if seen != facts["engine"]["sha256"]:
        raise RunnerError(
            f"release {folder.name}: {engine.name} is not the file that was measured",
            code="bad_release",
        )
    refused = refusal(made_for)
    if refused:
        raise RunnerError(
            f"release {folder.name} was made on another device: {refused}",
            code="other_device",
            hint="an engine runs only on the GPU it was built for: `quantd optimize -c ...` builds "
            "one for this device",
        )
    with make(made_for, engine) as runner:
        infer(runner, inputs)
