"""Which engines are profiled: few, and each with the FP32 that it is compared with."""

from __future__ import annotations

from dataclasses import replace

from agent.core.records import Candidate
from agent.core.search.profiling import to_profile
from tests.support.candidates import candidate, engine, measurement


def measured(name: str, p50: float, batch: int = 1, mode: str | None = None) -> Candidate:
    found = replace(candidate(name, measurement(p50)), batch=batch, power_mode=mode)
    return replace(found, engine=engine(name=name, batch=batch))


FOUND = [
    measured("fp32", 10.0), measured("fp16", 8.0), measured("int8-mse", 13.0),
    measured("int8-mixed", 12.0), measured("int8-entropy", 15.0),
]  # fmt: skip


def profiled(chosen: str | None, *others: Candidate) -> tuple[list[str], dict[str, str]]:
    engines, baselines = to_profile([*FOUND, *others], chosen)
    assert all(engine.digest == name for name, engine in engines.items())
    return list(engines), baselines


def test_where_fp32_is_chosen_the_fastest_in_int8_is_compared_with_it():
    assert profiled("fp32") == (["fp32", "int8-mixed"], {"int8-mixed": "fp32"})


def test_a_chosen_one_in_int8_is_the_one_that_is_compared():
    assert profiled("int8-entropy") == (["fp32", "int8-entropy"], {"int8-entropy": "fp32"})


def test_a_chosen_one_of_another_precision_is_compared_too():
    expected = (["fp32", "fp16", "int8-mixed"], {"fp16": "fp32", "int8-mixed": "fp32"})
    assert profiled("fp16") == expected


def test_where_nothing_is_feasible_the_fastest_in_int8_is_compared():
    assert profiled(None) == (["fp32", "int8-mixed"], {"int8-mixed": "fp32"})


def test_each_is_compared_with_fp32_of_its_batch_and_power_mode():
    others = (
        measured("fp32-b4", 30.0, batch=4), measured("fp32-15W", 20.0, mode="15W"),
        measured("int8-b4", 9.0, batch=4), measured("int8-15W", 11.0, mode="15W"),
    )  # fmt: skip
    others = tuple(replace(o, recipe=replace(o.recipe, precision=o.id[:4])) for o in others)
    assert profiled("int8-15W", *others) == (["fp32-15W", "int8-15W"], {"int8-15W": "fp32-15W"})
    assert profiled("fp32", *others) == (["fp32", "fp32-b4", "int8-b4"], {"int8-b4": "fp32-b4"})


def test_what_failed_or_was_not_measured_is_not_profiled():
    lost = [replace(one, failure="it broke") for one in FOUND[2:]]
    assert to_profile([*FOUND[:2], *lost], "fp32") == ({"fp32": FOUND[0].engine}, {})
    alone = [replace(FOUND[0], failure="it broke"), FOUND[3]]
    assert to_profile(alone, "int8-mixed") == ({"int8-mixed": FOUND[3].engine}, {})
    assert to_profile([replace(FOUND[0], measurement=None)], None) == ({}, {})
    assert to_profile([], None) == ({}, {})


def test_a_run_of_fp32_alone_profiles_it():
    assert to_profile(FOUND[:1], "fp32") == ({"fp32": FOUND[0].engine}, {})
    assert to_profile(FOUND[:1], None) == ({"fp32": FOUND[0].engine}, {})
