"""Axes: round values between the ends, and nothing outside of the chart."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from agent.page.chart import Axis, Chart, colour, marker

LOWS = st.floats(1e-6, 1e6)
SPANS = st.floats(1.001, 1e6)


@given(low=LOWS, span=SPANS, log=st.booleans(), value=st.floats(-1e9, 1e9))
def test_values_are_inside_and_ticks_are_few_and_in_order(low, span, log, value):
    axis = Axis(low=low, high=low * span, title="", log=log)
    assert 0 <= axis.share(value) <= 1
    ticks = axis.ticks()
    assert len(ticks) <= 13
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-9) <= one <= axis.high * (1 + 1e-9) for one in ticks)
    assert axis.share(low) == 0
    assert abs(axis.share(axis.high) - 1) < 1e-9


@given(high=st.floats(1e-9, 1e9))
def test_an_axis_from_zero_has_a_tick_there_and_one_more(high):
    ticks = Axis(low=0.0, high=high, title="").ticks()
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6


def test_lengths_across_are_percent_and_texts_are_text():
    chart = Chart(Axis(low=0.0, high=10.0, title="x"), Axis(low=0.0, high=1.0, title="y"))
    chart.line([(0.0, 0.0), (20.0, 1.0)], "c0")
    chart.point((5.0, 0.5), ((4.0, 6.0), None), marker(0), "c0")
    chart.upright(11.0, "limit")
    chart.text(10.0, "<b>&\x1b")
    drawn = chart.drawn('a "label"')
    assert "limit" not in drawn
    assert "&lt;b&gt;&amp;\\x1b" in drawn
    assert 'aria-label="a &#34;label&#34;"' in drawn
    assert 'x="50.00%"' in drawn
    assert max(map(float, re.findall(r'x\d?="([\d.]+)%"', drawn))) <= 100


def test_fifty_candidates_differ_by_colour_or_marker():
    assert len({(colour(number), marker(number)) for number in range(50)}) == 50
