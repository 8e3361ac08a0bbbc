"""The profile stage: FP32 first, an engine without a profile affects no other."""

from __future__ import annotations

from agent.core.errors import BuildError, RunnerError
from agent.core.measurement.layer_times import EngineProfile, GraphNode, Kernel
from agent.stages.measuring.profile import profile
from tests.support.candidates import engine

NODES = (GraphNode(name="a", operator="Conv", inputs=("x",), outputs=("y",)),)
TAKES_US = {"fp32": 10.0, "int8": 30.0, "fp16": 5.0}


class Profiler:
    """Profiles an engine of one node, by its file."""

    def profile(self, path: str, inputs: object) -> EngineProfile:
        assert inputs == [{"x": path}]
        if path == "lost":
            raise RunnerError("no profile on CUDA")
        if path == "unbuilt":
            raise BuildError("no such provider")
        kernel = Kernel(operator="K", tensor="y", conversion=False, time_us=TAKES_US[path])
        return EngineProfile(
            source="a test", nodes=NODES, kernels=(kernel,), inference_us=kernel.time_us + 1, runs=3
        )


def profiled(*names: str, **baselines: str):
    seen: list[tuple[int, int, str, str]] = []
    found = profile(
        {name: engine(name=name) for name in names},
        baselines,
        profiler=lambda _: Profiler(),
        path=lambda one: str(one.digest),
        tensors=lambda one: [{"x": one.digest}],
        progress=lambda *step: seen.append(step),
    )
    assert seen == [
        *((i, len(names), f"profiling {name}", name) for i, name in enumerate(names)),
        (len(names), len(names), ""),
    ]
    return found


def test_each_is_compared_with_its_baseline():
    found = profiled("fp32", "int8", int8="fp32")
    assert found.failed == {}
    assert found.profiled["fp32"].against_baseline is None
    change = found.profiled["int8"].against_baseline
    assert (change.baseline, change.difference_us, change.slower_us) == ("fp32", 20.0, 20.0)


def test_one_that_can_not_be_profiled_has_its_reason():
    found = profiled("fp32", "lost", "unbuilt", "fp16", lost="fp32", fp16="fp32")
    assert found.failed == {"lost": "no profile on CUDA", "unbuilt": "no such provider"}
    assert found.profiled["fp16"].against_baseline.faster_us == -5.0


def test_without_its_baseline_an_engine_has_its_own_times():
    found = profiled("lost", "int8", int8="lost")
    assert found.profiled["int8"].against_baseline is None
    assert [one.time_us for one in found.profiled["int8"].layers] == [30.0]
