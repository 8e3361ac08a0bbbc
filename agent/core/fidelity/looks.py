"""What a model finds on one frame under several choices of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.core.errors import QuantdError
from agent.core.fidelity.box_decoding import Outputs
from agent.core.fidelity.results import FrameSize, result_of
from agent.core.fidelity.scores import CUTS, first_output, within_one
from agent.core.fidelity.task import Task
from agent.core.fidelity.views import view_of
from agent.core.frames.input_spec import InputSpec
from agent.core.records import Scene, View

_OUTPUTS = 3  # with their range shown, where they have no meaning to draw


def looks(
    found: Mapping[str, Outputs], task: Task, specs: Mapping[str, InputSpec], frame: FrameSize
) -> tuple[Scene, ...]:
    """Return the frame under each choice.

    Args:
        found: The outputs, by the choice.
        task: What they mean; a score that stands alone gets the threshold of probabilities, if all
            are such, else that of logits.
        specs: How the frame became the input, by the choice.
        frame: Its size.
    """
    probabilities = all(within_one(first_output(outputs)) for outputs in found.values())
    judged = replace(task, threshold=CUTS[0] if probabilities else CUTS[1])
    scenes = []
    for choice, outputs in found.items():
        spec = specs[choice]
        view, words = _seen(outputs, judged, spec, frame)
        scenes.append(
            Scene(
                frame=choice,
                width=frame.width,
                height=frame.height,
                words=f"{choice}: {words}" if words else choice,
                views={} if view is None else {"found": view},
            )
        )
    return tuple(scenes)


def _seen(
    outputs: Outputs, task: Task, spec: InputSpec, frame: FrameSize
) -> tuple[View | None, str]:
    """Return what is drawn, else words."""
    try:
        view = view_of(result_of(outputs, task, spec, frame), task, spec, frame)
    except QuantdError as error:
        return None, error.message
    if view is not None:
        return view, ""
    ranges = [
        f"{name} from {values.min():.3g} to {values.max():.3g}"
        for name, values in outputs.items()
        if values.size
    ]
    return None, "outputs " + ", ".join(ranges[:_OUTPUTS])
