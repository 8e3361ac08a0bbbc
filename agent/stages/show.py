"""What two engines find on holdout frames, for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from agent.core.errors import RunnerError
from agent.core.fidelity.results import FrameSize
from agent.core.fidelity.scenes import Gallery
from agent.core.records import Scene
from agent.ports import EngineRunner, Progress

if TYPE_CHECKING:
    from agent.core.fidelity.box_decoding import Outputs
    from agent.ports import Tensors


def show(
    gallery: Gallery,
    frames: Iterable[tuple[Sequence[tuple[str, FrameSize]], Tensors]],
    *,
    make_runners: Sequence[Callable[[], EngineRunner]],
    progress: Progress,
) -> tuple[Scene, ...]:
    """Run engines on frames and return what is shown of them.

    Args:
        gallery: Empty.
        frames: The names and sizes of the frames of one batch, and the input made of them.
        make_runners: Return runners of the baseline and the other engine, not yet entered.
        progress: Called after every batch.

    Raises:
        RunnerError: "outputs" if those of a batch can't be separated by frame; other codes if an
            engine doesn't load or run.
    """
    with ExitStack() as stack:
        runners = [stack.enter_context(make()) for make in make_runners]
        for done, (batch, inputs) in enumerate(frames, start=1):
            outputs = [_outputs(runner, inputs) for runner in runners]
            for index, (name, size) in enumerate(batch):
                gallery.add(name, size, [_of_frame(one, index, len(batch)) for one in outputs])
            progress(done, 0, "")
    return gallery.shown()


def _outputs(runner: EngineRunner, inputs: Tensors) -> Outputs:
    runner.bind(inputs)
    runner.run()
    return runner.outputs()


def _of_frame(outputs: Outputs, index: int, batch: int) -> Outputs:
    """Return the outputs for one frame of a batch, which is their first axis."""
    if batch == 1:
        return outputs
    if any(not values.ndim or len(values) != batch for values in outputs.values()):
        raise RunnerError(f"the outputs of {batch} frames can't be separated", code="outputs")
    return {name: values[index : index + 1] for name, values in outputs.items()}
