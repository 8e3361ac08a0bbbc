"""What a run takes over: only what is stated, only where it fits."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.core.records import ConditionedModel, Digest
from agent.core.release.reuse import ReusedCalibration, digest_field, mismatch

anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(anything, st.text(max_size=8))
def test_a_hostile_lineage_states_a_name_of_a_folder_or_nothing(lineage, name):
    found = digest_field(lineage, name)
    assert found is None or (found and found.isalnum())


def test_a_digest_is_taken_as_it_is_and_a_path_is_not():
    assert digest_field({"statistics": "ab12"}, "statistics") == "ab12"
    assert digest_field({"statistics": "../../etc"}, "statistics") is None
    assert digest_field({"statistics": ""}, "statistics") is None


def test_what_is_taken_over_must_stay():
    assert ReusedCalibration().digests == frozenset()
    assert ReusedCalibration(conditioned=Digest("a"), statistics=Digest("b")).digests == {"a", "b"}


@given(st.sampled_from("mn"), st.sampled_from(["U8S8", "S8S8"]))
def test_statistics_fit_the_very_graph_only(model, scheme):
    earlier = ConditionedModel(
        digest=Digest("c"), model=Digest("m"), calibration=Digest("f"), scheme="U8S8",
        weight_steps=(),
    )  # fmt: skip
    assert (mismatch(earlier, Digest(model), scheme) == "") == ((model, scheme) == ("m", "U8S8"))
    assert mismatch(replace(earlier, weight_steps=None), Digest(model), scheme)
    assert mismatch(None, Digest(model), scheme)
