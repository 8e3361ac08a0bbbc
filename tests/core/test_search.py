"""Which candidates a run looks at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.lineage import Platform
from agent.core.search import candidates, recipes

PLATFORM = Platform(
    runtime="onnxruntime",
    runtime_version="1",
    scheme="U8S8",
    fp16_reason="no kernels",
    device="cpu",
    environment={},
)


@given(
    st.lists(st.sampled_from(["fp32", "fp16", "int8", "int8-mixed"])),
    st.lists(st.sampled_from(["minmax", "entropy", "percentile", "mse"])),
    st.lists(st.integers(1, 8), min_size=1),
)
def test_ids_are_unique_and_the_baseline_is_always_there(precisions, calibrators, batches) -> None:
    found = candidates(recipes(precisions, calibrators, "U8S8"), batches, (), PLATFORM)
    ids = [c.id for c in found]
    assert len(set(ids)) == len(ids)
    for batch in batches:
        assert any(c.recipe.precision == "fp32" and c.batch == batch for c in found)


def test_what_the_platform_gains_nothing_from_is_told_not_hidden() -> None:
    found = candidates(recipes(["fp16"], [], "U8S8"), [1], (), PLATFORM)
    (fp16,) = [c for c in found if c.id == "fp16"]
    assert fp16.failure == "no kernels"
