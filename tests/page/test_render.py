"""report.html: nothing from outside becomes markup, nothing is fetched, no run is too odd."""

from __future__ import annotations

import html.parser
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agent.core.records import UNPREDICTED, Candidate, PowerTrace, PowerWindow
from tests.support.candidates import at_rate, candidate, evaluation, measurement
from tests.support.reports import report_of

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "end": "</title></style></svg><img src=x onerror=alert(1)>",
    "quote": '" onmouseover="alert(1)" x=\'',
    "entity": "&lt;script&gt; &#60;b&#62; &",
    "template": "{{ 7 * 7 }}{% raw %}",
    "formula": r"$\frac{1}{0}$ $",
    "long": "x" * 20_000,
    "cjk": "漢字",
    "surrogate": "caf\udce9",
    "control": "\x1b[2J\x00\x07",
    "bidi": "\u202egnp.exe",
    "blank": " ",
}
VOID = {"meta", "img", "br", "link", "input", "source"}


class Page(html.parser.HTMLParser):
    """Tags, attributes and texts of a page, plots apart from the rest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.plot_tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.charts = 0
        self._plots = 0  # around what comes next
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self._plots += tag == "svg"
        self.charts += tag == "svg" and "chart" in dict(attrs).get("class", "").split()
        if self._plots:
            self.plot_tags[tag] += 1
        else:
            self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        self._plots -= tag == "svg"

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def drawn(
    found: Sequence[Candidate], *, limits=None, text="small", pictures=(b"jpeg",), traces=()
) -> str:
    from agent.page.render import render

    sketches = {one.id: one.measurement.sketch_ms for one in found if one.measurement}
    return render(report_of(found, limits=limits, text=text), pictures, sketches, traces)


def test_the_power_of_every_sitting_is_one_line_with_its_windows():
    paced = replace(measurement(5.0, power_w=3.0), at_rate=at_rate(30.0, power_w=2.0))
    found = [candidate("fp32", paced, evaluation()), candidate("fp16", failure="no kernels")]
    windows = tuple(
        PowerWindow(candidate=name, kind=kind, begin_s=begin, end_s=begin + 2.0)
        for name, kind, begin in (
            ("", "idle", 100.0), ("fp32", "flat out", 103.0), ("fp32", "at rate", 105.0),
            ("fp16", "flat out", 108.0),
        )
    )  # fmt: skip
    trace = PowerTrace(points=tuple((100.0 + t / 10, 3.0) for t in range(100)), windows=windows)
    page = Page(drawn(found, traces=[trace, PowerTrace()]))
    assert "at rest" in page.text
    assert page.charts == Page(drawn(found)).charts + 1
    bare = [candidate("fp32", measurement(5.0), evaluation())]
    assert "VDD_IN" not in Page(drawn(bare, traces=[trace])).text


def usual(text: str = "out") -> list[Candidate]:
    fp32 = candidate("fp32", measurement(10.0), evaluation(None))
    judged = evaluation(31.0, agreement=0.97)
    outputs = {text: 31.0, f"{text}2": None}
    judged = replace(
        judged,
        fidelity=replace(judged.fidelity, per_output_sqnr_db=outputs, task={text: 0.97}),
    )
    int8 = candidate("int8-mse", measurement(5.0, power_w=3.0), judged)
    guess = replace(UNPREDICTED, latency_p50_ms=6.0, basis="a roofline")
    return [
        fp32,
        replace(int8, predicted=guess),
        candidate("fp16", failure=f"the runtime said {text}"),
    ]


@pytest.mark.parametrize("kind", [*HOSTILE, "all"])
def test_a_hostile_name_stays_a_name(kind):
    text = HOSTILE.get(kind) or "".join(one for name, one in HOSTILE.items() if name != "blank")
    limits = {"sqnr_db": 20.0, "latency_p99_ms": 20.0}
    plain = Page(drawn(usual(), limits=limits))
    page_text = drawn(usual(text), limits=limits, text=text)
    page_text.encode()
    page = Page(page_text)
    assert page.tags == plain.tags
    assert set(page.plot_tags) <= set(plain.plot_tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", page_text)
    if text.isprintable() and text.strip():
        assert " ".join(text.split()) in page.text
    assert "49" not in page.texts


@pytest.mark.parametrize(
    "found",
    [[], usual(), [candidate("int8-mse", failure="refused")]],
    ids=["no candidate", "usual", "all failed"],
)
def test_nothing_is_fetched(found):
    text = drawn(found)
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(page.tags)
    for name, value in page.attributes:
        if name in {"src", "href", "xlink:href", "action", "data", "srcset", "poster"}:
            assert value.startswith(("data:image/jpeg;base64,", "#")), (name, value)
    assert "@import" not in text
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", text))
    (policy,) = [v for n, v in page.attributes if n == "content" and "default-src" in v]
    assert "default-src 'none'" in policy


def test_no_candidate_makes_a_page_without_plots():
    page = Page(drawn([], pictures=()))
    assert "Nothing fits: no candidate is usable" in page.text
    assert "There was none to look at" in page.text
    assert "Plots" not in page.text
    assert not page.charts


def test_nothing_feasible_names_the_nearest_miss_and_is_no_success():
    page = Page(drawn(usual(), limits={"latency_p99_ms": 4.0}))
    assert ("class", "none") in page.attributes
    assert "int8-mse would with limits.latency_p99_ms at 5 instead of 4" in page.text
    assert "nearest miss: int8-mse" in page.text
    assert "not attempted" in page.text


def test_every_null_is_a_dash_with_its_reason_in_the_page():
    bare = candidate("int8-mse", measurement(5.0), evaluation(31.0, memory_mb=None))
    bare = replace(
        bare,
        engine=None,
        predicted=replace(UNPREDICTED, basis="nothing known of int8"),
    )
    page = Page(drawn([bare, candidate("fp32", measurement(9.0), evaluation(None))]))
    shown = page.text[page.text.index("Without a value, and why") :]
    for what, reason in (
        ("power, energy", "no power sensor"),
        ("throttling", "not reported by this board"),
        ("SQNR", "identical to the baseline"),
        ("agreement with FP32", "no metric"),
        ("predicted latency", "nothing known of int8"),
        ("memory", "not reported"),
    ):
        assert re.search(rf"{what}\s+{reason}", shown), what
    assert "( int8-mse, fp32 )".replace(" ", "") in shown.replace(" ", "")
    assert "0.00 W" not in page.text
    assert "None" not in page.text


def test_what_is_known_needs_no_reasons():
    known = candidate(
        "fp32", measurement(9.0, power_w=3.0, throttled=False), evaluation(40.0, agreement=1.0)
    )
    guess = replace(UNPREDICTED, latency_p50_ms=6.0, basis="a roofline")
    known = replace(known, predicted=guess, layer_times_reason="")
    assert "Without a value" not in Page(drawn([known])).text


def test_what_was_measured_at_a_frame_rate_has_a_table_of_its_own():
    paced = replace(measurement(5.0), at_rate=at_rate(30.0, power_w=3.0, dropped=0.25))
    text = Page(drawn([candidate("int8", paced, evaluation(31.0))])).text
    assert re.search(r"At 30 FPS.*25\.0%\s*3\.00 W\s*133\.3 mJ\s*88\.9 mJ", text, re.DOTALL)
    flat_out = Page(drawn([candidate("int8", measurement(5.0), evaluation(31.0))])).text
    assert not re.search(r"At \S+ FPS", flat_out)


def test_doubtful_numbers_are_flagged():
    page = Page(drawn([candidate("fp32", measurement(steady=False, throttled=True), evaluation())]))
    assert "its latency did not get steady" in page.text
    assert "it throttled" in page.text
    assert "doubtful" in page.text
    assert "doubtful" not in Page(drawn([candidate("fp32", measurement(), evaluation())])).text


def test_every_figure_stands_with_its_conditions():
    hot = replace(measurement(power_w=3.0), temp_c=61.4, gpu_mhz=(306.0, 624.0))
    text = Page(drawn([candidate("fp32", hot, evaluation())])).text
    assert "1000 inferences in 5 rounds, up to 61 °C, GPU 306 to 624 MHz" in text
    assert "power of VDD_IN by ina3221 every 0.1 s" in text


def test_many_candidates_with_many_long_outputs_still_make_a_page():
    found = []
    for number in range(24):
        judged = evaluation(30.0)
        outputs = {f"{'layer/' * 10}{index}": 30.0 for index in range(40)}
        judged = replace(judged, fidelity=replace(judged.fidelity, per_output_sqnr_db=outputs))
        found.append(candidate(f"int8-{number}", measurement(5.0 + number), judged))
    assert Page(drawn(found)).charts == 3


def test_the_same_run_makes_the_same_page():
    assert drawn(usual()) == drawn(usual())


def test_an_unknown_interval_has_a_reason():
    one = measurement(5.0)
    few = replace(one.latency_ms, ci95_p50=None, ci95_p99=None, ci95_reason="of a single round")
    page = Page(drawn([candidate("fp32", replace(one, latency_ms=few), evaluation())]))
    assert "no interval: of a single round" in page.text
