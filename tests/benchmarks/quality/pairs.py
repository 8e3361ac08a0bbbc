"""One model in front of one scene: its folder, its FP32 outputs, and graphs judged beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.engines.errors import ONNXRUNTIME_ERRORS, one_line
from tests.benchmarks.quality import metrics, peers
from tests.benchmarks.quality.children import required
from tests.benchmarks.quality.layout import lay_out
from tests.benchmarks.quality.material import AGREEMENT, Model, split
from tests.benchmarks.quality.steps import TENSORRT

_JUDGES = 32  # frames


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A folder that was laid out, with its clean model.

    Attributes:
        settings: Of quantd.
        scheme: Of the INT8 graphs.
        reference: FP32 outputs on the held-out frames.
        known: What was judged already.
    """

    model: Model
    scene: str
    folder: Path
    settings: Mapping[str, Any]
    scheme: str
    reference: list[metrics.Outputs]
    known: dict[tuple[str, bool], metrics.Judged] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return what the tables call it."""
        return f"{self.model.name}, {self.scene}"

    @property
    def clean(self) -> str:
        """Return the clean model's file."""
        return str(self.folder / "model.onnx")

    def judged(self, graph: str, *, optimized: bool = False) -> metrics.Judged:
        """Return a graph's outputs beside those of FP32.

        Raises:
            ValueError: if they are not finite, or the graph can't be run.
        """
        key = (graph, optimized)
        if key in self.known:
            return self.known[key]
        try:
            held = str(self.folder / "holdout.npz")
            seen = metrics.outputs(graph, held, optimized=optimized)
        except ONNXRUNTIME_ERRORS as e:
            raise ValueError(one_line(e)) from e
        self.known[key] = metrics.judged(self.reference, seen, self.model.metric)
        return self.known[key]

    def figures(self, graph: str) -> dict[str, Any]:
        """Return the figures of a graph for its row, or the reason why it has none."""
        try:
            found = self.judged(graph).figures()
            return {**found, "int8_share": round(metrics.int8_share(graph, self.clean), 4)}
        except ValueError as e:
            return {"failed": f"the graph can't be judged: {e}"}


@contextmanager
def laid_out(
    model: Model,
    scene: str,
    frames: int,
    models: Path | None,
    scheme: str = TENSORRT,
    strategy: str = "full",
) -> Iterator[Pair]:
    """Lay a pair out in a temporary folder and clean its model.

    Args:
        frames: That calibrate; 32 others judge.
        models: Folder of further ONNX files.
        scheme: Of the INT8 graphs.
        strategy: As `search.strategy`.

    Raises:
        UnavailableError: if there is no such model here or its intake fails.
    """
    path = model.locate(models, peers.CACHE)
    settings = {
        **model.settings,
        "model.name": model.name,
        "model.path": str(path),
        "limits.agreement": AGREEMENT,
        "search.strategy": strategy,
    }
    with tempfile.TemporaryDirectory(prefix="quantd-bench-") as directory:
        folder = Path(directory) / "work"
        lay_out(folder, settings, *split(scene, frames, _JUDGES), scheme)
        required("steps", "intake", folder)
        yield Pair(
            model=model,
            scene=scene,
            folder=folder,
            settings=settings,
            scheme=scheme,
            reference=metrics.outputs(str(folder / "model.onnx"), str(folder / "holdout.npz")),
        )
