"""Whether a release still fits: no change unseen, no rebuild without end."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from agent.core.records import Platform
from agent.core.release.upgrade import (
    ATTEMPTS,
    conditions,
    differences,
    fingerprint,
    foreign,
    left_on_purpose,
    plan,
)

HERE = conditions(
    Platform(
        runtime="tensorrt",
        runtime_version="10.3.0",
        scheme="S8S8",
        fp16_reason="",
        device="Orin",
        environment={
            "board": "NVIDIA Jetson Orin Nano",
            "compute_capability": "8.7",
            "driver": "540.4.0",
            "l4t": "36.4.3",
            "power_mode": "15W",
            "quantd": "1",
        },
    )
)
FACTS = tuple(HERE)
SOFTWARE = ("kind", "version", "driver", "l4t")
values = st.none() | st.text(max_size=5) | st.integers() | st.lists(st.integers(), max_size=2)
hostile = st.dictionaries(st.sampled_from(FACTS) | st.text(max_size=8), values)
changes = st.dictionaries(st.sampled_from(FACTS), st.text(min_size=1), min_size=1)


def test_only_what_an_engine_hangs_on_is_a_condition():
    assert FACTS == (
        "kind", "version", "device", "board", "compute_capability", "driver", "l4t",
    )  # fmt: skip
    assert differences(HERE, HERE) == foreign(HERE, HERE) == ()


@given(changes)
def test_every_change_is_seen_and_reported(changed):
    now = {**HERE, **changed}
    seen = {name for name in FACTS if now[name] != HERE[name]}
    told = differences(HERE, now)
    assert len(told) == len(seen)
    assert all(str(HERE[name]) in " ".join(told) for name in seen)
    assert (fingerprint(now) == fingerprint(HERE)) == (not seen)


@given(changes)
def test_a_change_of_software_alone_is_the_same_device(changed):
    now = {**HERE, **changed}
    machine = {name for name in FACTS if now[name] != HERE[name]} - set(SOFTWARE)
    assume(now["kind"] == HERE["kind"])
    assert bool(foreign(HERE, now)) == bool(machine)


def test_another_runtime_names_the_device_otherwise():
    cpu = {**HERE, "kind": "onnxruntime", "device": "ARMv8", "compute_capability": None}
    assert foreign(HERE, cpu) == ()
    assert foreign(HERE, {**cpu, "board": "NVIDIA Jetson AGX Orin"})


@given(hostile, hostile)
def test_what_a_damaged_file_states_never_raises(made, here):
    for told in (*differences(made, here), *foreign(made, here)):
        assert len(told) < 400


def test_what_one_side_does_not_know_is_no_change():
    earlier = {name: HERE[name] for name in ("kind", "version", "device")}
    assert differences(earlier, HERE) == ()
    inside_a_container = {**HERE, "l4t": None, "board": None}
    assert differences(HERE, inside_a_container) == ()


@given(st.booleans(), st.lists(st.just(HERE) | changes.map(lambda c: {**HERE, **c}) | st.just({})))
def test_only_a_working_release_beside_one_that_fits_is_left_alone(loads, others):
    left = left_on_purpose(loads=loads, here=HERE, others=others)
    assert left == (loads and any(other == HERE for other in others))


def test_rebuilds_for_one_state_come_to_an_end():
    plans = [plan(on_purpose=False, attempt=number) for number in range(1, 50)]
    assert plans.count("rebuild") == ATTEMPTS
    assert set(plans[ATTEMPTS:]) == {"give_up"}
    assert plan(on_purpose=True, attempt=0) == "keep"
