"""Which candidates a run looks at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.records import Model, Platform
from agent.core.search.candidates import candidates, recipes

PLATFORM = Platform(
    runtime="onnxruntime",
    runtime_version="1",
    scheme="U8S8",
    fp16_reason="no kernels",
    device="cpu",
    environment={},
)

MODEL = Model(name="m", sha256="s", macs=1, changes=())
QUANTIZED = replace(MODEL, quantized="2 QuantizeLinear")


@given(
    st.lists(st.sampled_from(["fp32", "fp16", "int8", "int8-mixed"])),
    st.lists(st.sampled_from(["minmax", "entropy", "percentile", "mse"])),
    st.lists(st.integers(1, 8), min_size=1),
)
def test_ids_are_unique_and_the_baseline_is_always_there(precisions, calibrators, batches) -> None:
    found = candidates(recipes(precisions, calibrators, "U8S8", MODEL), batches, (), PLATFORM)
    ids = [c.id for c in found]
    assert len(set(ids)) == len(ids)
    for batch in batches:
        assert any(c.recipe.precision == "fp32" and c.batch == batch for c in found)


def test_what_the_platform_gains_nothing_from_is_reported_not_hidden() -> None:
    found = candidates(recipes(["fp16"], [], "U8S8", MODEL), [1], (), PLATFORM)
    (fp16,) = [c for c in found if c.id == "fp16"]
    assert fp16.failure == "no kernels"


@pytest.mark.parametrize("baseline", ["fp32", "as-given"])
def test_a_quantized_file_is_a_candidate_and_the_baseline_if_no_fp32_is_made_of_it(
    baseline,
) -> None:
    wanted = recipes(["fp16", "int8"], ["mse"], "U8S8", replace(QUANTIZED, baseline=baseline))
    found = candidates(wanted, [1, 2], ("15W",), replace(PLATFORM, runtime="tensorrt"), 0)
    ids = [c.id for c in found]
    assert ("fp32@15W" in ids) == (baseline == "fp32")
    assert "as-given-b2@15W" in ids
    assert ("as-given-dla0@15W" in ids) == (baseline == "fp32")
    assert {c.recipe.precision for c in found if c.recipe.is_baseline} == {baseline}


NX = {"board": "Jetson Orin NX 16 GB", "dla_cores": 2}


def on_accelerator(version="10.3.0", runtime="tensorrt", core=1, **facts):
    """Return the reasons of the candidates of one accelerator, by id; empty ones are offered."""
    found = candidates(
        recipes(["fp32", "fp16", "int8"], ["mse"], "S8S8", MODEL),
        [1],
        (),
        replace(
            PLATFORM, runtime=runtime, runtime_version=version, fp16_reason="",
            environment={**NX, **facts},
        ),
        core,
    )  # fmt: skip
    return {c.id: c.failure for c in found if c.dla_core >= 0}


def test_an_accelerator_is_tried_in_what_it_computes():
    assert on_accelerator("11.4.1") == {"fp16-dla1": "", "int8-mse-dla1": ""}
    old = on_accelerator("10.3.0")
    assert old["fp16-dla1"] == ""
    assert "no Q/DQ" in old["int8-mse-dla1"]


@pytest.mark.parametrize("version", ["10.8.0", "10.13.3.9", "11.0.0", "11.4.0.106"])
def test_releases_without_accelerators_are_distinguished(version):
    for reason in on_accelerator(version).values():
        assert version in reason
        assert "11.4.1" in reason


def test_without_an_accelerator_the_board_is_named():
    for facts in ({"dla_cores": 0}, {"dla_cores": 1}, {"dla_cores": None}):
        reasons = on_accelerator(**facts)
        assert reasons
        assert all("Orin NX" in reason for reason in reasons.values())
    assert all("needs TensorRT" in r for r in on_accelerator(runtime="onnxruntime").values())
    assert on_accelerator(core=-1) == {}


def in_modes(*wanted, **facts):
    platform = replace(PLATFORM, environment=facts)
    found = candidates(recipes(["fp32"], [], "U8S8", MODEL), [1], wanted, platform)
    return {c.id: c.failure for c in found}


def test_modes_that_can_be_set_are_candidates_and_others_have_a_reason():
    facts = {"power_modes": "15W, 25W", "power_modes_after_reboot": "7W"}
    found = in_modes("15W", "25W", "7W", "MAXN", **facts)
    assert found["fp32@15W"] == found["fp32@25W"] == ""
    assert "after a reboot" in found["fp32@7W"]
    assert "there are 15W, 25W, 7W" in found["fp32@MAXN"]
    assert "none that can be set" in in_modes("15W")["fp32@15W"]
