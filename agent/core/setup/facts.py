"""What is seen in a model file and through a camera, before anything is concluded from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.fidelity.decoding import Shape

METADATA = (
    *("author", "description", "task", "head", "stride", "names", "imgsz", "channels", "args"),
    *("end2end", "kpt_shape", "preprocessor_config", "pretrained_cfg"),
)
"""Keys of a file's metadata that something is concluded from."""
BESIDE = ("preprocessor_config.json", "config.json")
"""Files beside a model that describe its input or its classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFacts:
    """An input or output.

    Attributes:
        shape: 0 for a free dimension.
        dtype: Name of the numpy dtype.
        made_by: Operator that computes an output; "" for an input.
    """

    name: str
    shape: Shape
    dtype: str
    made_by: str = ""

    @property
    def spelled(self) -> str:
        """Return name, shape and dtype, with "?" for a free dimension."""
        shape = "x".join(str(one) if one else "?" for one in self.shape) or "scalar"
        return f"{self.name} {shape} {self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The arithmetic by constants that a graph begins with: scale * x + shift.

    Attributes:
        scale: One value, or one per channel; as many as in `shift`.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model file.

    Attributes:
        metadata: The entries of METADATA that it has; text of any kind.
        beside: The text of the files of BESIDE that there are.
        begins: None if the graph does not begin with arithmetic.
    """

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    metadata: Mapping[str, str]
    beside: Mapping[str, str]
    begins: Beginning | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFacts:
    """What a camera gave.

    Attributes:
        source: Its URI without credentials.
        width: Of a frame, px.
        height: Of a frame, px.
        rate_fps: Of the frames that were read; None if there were too few.
    """

    source: str
    width: int
    height: int
    rate_fps: float | None
