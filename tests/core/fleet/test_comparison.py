"""A model over its devices: groups, what wins, what stands out."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from agent.core.fleet.comparison import compare_devices
from agent.core.fleet.devices import ReportRow


def row(device="cam-1", board="orin-nano", precision="int8", p50=4.0, energy=0.03, **more):
    texts = {one.name: "" for one in fields(ReportRow)}
    numbers = dict.fromkeys(
        one.name for one in fields(ReportRow) if "float" in str(one.type)
    )  # fmt: skip
    given = {"device": device, "board": board, "precision": precision, "at_ms": 0}
    return ReportRow(**texts | numbers | given | {"latency_p50_ms": p50, "energy_j": energy} | more)


def test_the_fastest_and_the_thriftiest_precision_of_each_board_win():
    rows = [row(f"a{n}", precision="int8", p50=4 + n / 10, energy=0.05) for n in range(3)]
    rows += [row(f"b{n}", precision="fp16", p50=7.0, energy=0.04) for n in range(3)]
    rows += [row("c", board="agx-orin", p50=1.0)]
    found = {(one.board, one.precision): one for one in compare_devices(rows).groups}
    assert found["orin-nano", "int8"].wins == ("latency",)
    assert found["orin-nano", "fp16"].wins == ("energy",)
    assert found["agx-orin", "int8"].wins == ()  # nothing to compare with
    assert found["orin-nano", "int8"].latency_p50_ms == 4.1


def test_a_precision_on_two_devices_only_wins_nothing():
    rows = [row(f"a{n}", precision="int8", p50=1.0) for n in range(2)]
    rows += [row(f"b{n}", precision="fp16", p50=7.0) for n in range(3)]
    assert all(one.wins == () for one in compare_devices(rows).groups)


def test_a_slow_device_stands_out_of_its_own_group_only():
    rows = [row(f"a{n}", p50=4 + n / 100) for n in range(8)] + [row("slow", p50=6.0)]
    rows += [row(f"b{n}", precision="fp16", p50=6 + n / 100) for n in range(8)]
    (found,) = compare_devices(rows).outliers
    assert found.row.device == "slow"
    rows.append(row("fast", p50=2.0))
    assert len(compare_devices(rows).outliers) == 1


@given(st.lists(st.floats(3.9, 4.1), max_size=12))
def test_what_differs_by_less_than_a_tenth_never_stands_out(latencies):
    rows = [row(str(n), p50=value) for n, value in enumerate(latencies)]
    assert compare_devices(rows).outliers == ()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["int8", ""]), st.none() | st.floats(0, 1e9)), max_size=12))  # fmt: skip
def test_every_device_with_a_choice_is_in_one_group_and_order_is_irrelevant(drawn):
    rows = [row(str(n), board, precision, p50) for n, (board, precision, p50) in enumerate(drawn)]
    found = compare_devices(rows)
    assert sum(one.devices for one in found.groups) == sum(bool(one.precision) for one in rows)
    again = compare_devices(rows[::-1])
    assert set(again.groups) == set(found.groups)
