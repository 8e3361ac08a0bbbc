"""The page in a real Chromium: axe-core, three widths, light and dark, on paper, hostile names."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.records import Finding, PowerTrace, PowerWindow, Scene, Scenes, View
from agent.page.look import render_look
from agent.page.render import render
from tests.core.report.test_golden import recorded
from tests.page.test_render import HOSTILE, drawn, usual
from tests.support.browser import WIDTHS_PX, chromium, hidden_px, shown, violations

pytestmark = pytest.mark.slow  # a browser

CORNERS = ((2.0, 2.0), (12.0, 2.0), (12.0, 9.0), (2.0, 9.0))


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def png() -> bytes:
    """Return a grey picture of 16 x 12, which a browser also takes for a JPEG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        ends = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", ends)

    rows = zlib.compress(b"".join(b"\x00" + b"\x80" * 16 for _ in range(12)))
    header = struct.pack(">IIBBBBB", 16, 12, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A page with all of its parts: every table, every chart, scenes, sample frames."""
    report, sketches_ms = recorded("chosen")
    windows = tuple(
        PowerWindow(candidate=name, kind=kind, begin_s=begin_s, end_s=begin_s + 1.8)
        for name, kind, begin_s in (
            ("", "idle", 0.0), ("int8-minmax", "flat out", 2.0), ("int8-minmax", "at rate", 4.0),
        )
    )  # fmt: skip
    trace = PowerTrace(points=tuple((t / 10, 3 + t % 7 / 5) for t in range(60)), windows=windows)
    found = [
        Finding(name="person", score=0.9, box=CORNERS, points=((3.0, 4.0),)),
        Finding(name="x" * 256, score=0.4, box=CORNERS, mask="M1,1 4,1 4,4Z"),
    ]  # of two classes, so that their names are drawn
    view = View(findings=tuple(found), count=9)
    views = {"fp32": view, "int8-minmax": view}
    scene = Scene(frame="0.png", width=16, height=12, words="1 box each", views=views)
    page = render(report, [png()], sketches_ms, [trace], Scenes(scenes=(scene,)), {"0.png": png()})
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page, "utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_axe_finds_nothing_and_nothing_is_beside_the_window(browser, full, width_px, scheme):
    with shown(browser, full, width_px, color_scheme=scheme, bypass_csp=True) as page:
        assert violations(page) == ""
        assert hidden_px(page) <= 0
        assert page.locator("main").count() == 1
        assert page.locator("figure .chart").count() == 5


@pytest.mark.parametrize("run", ["infeasible", "hostile"])
def test_axe_finds_nothing_in_a_page_with_little_or_with_odd_names(browser, tmp_path, run):
    file = tmp_path / "report.html"
    odd = "".join(text for name, text in HOSTILE.items() if name not in {"blank", "surrogate"})
    page_text = drawn(usual(odd), text=odd) if run == "hostile" else render(recorded(run)[0])
    file.write_text(page_text, "utf-8")
    with shown(browser, file, WIDTHS_PX[0], bypass_csp=True) as page:
        assert violations(page) == ""
        assert hidden_px(page) <= 0


def test_a_phone_shows_every_reason_and_interval_and_texts_of_charts_at_their_size(browser, full):
    report, _ = recorded("chosen")
    with shown(browser, full, 360) as page:
        for one in report.candidates:
            for reason in one.reasons:
                box = page.get_by_text(reason, exact=True).first.bounding_box()
                assert box, reason
                assert box["x"] + box["width"] <= 360
                assert box["height"] > 0
        assert page.get_by_text("0.114–0.133", exact=True).first.is_visible()
        sizes = page.eval_on_selector_all(
            ".chart text", "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert len(sizes) > 20
        assert min(sizes) > 11


def test_the_chosen_row_is_first_and_a_candidate_has_one_colour_everywhere(browser, full):
    with shown(browser, full, 1400) as page:
        first = page.locator("tbody.candidate").first
        assert "chosen" in first.get_attribute("class").split()
        colours = page.evaluate(
            """() => {
              const found = {};
              for (const key of document.querySelectorAll('svg.key')) {
                const name = key.parentElement.textContent.trim().split(/[\\s:★]/)[0];
                const path = key.querySelector('path');
                (found[name] ??= new Set()).add(getComputedStyle(path).fill + path.getAttribute('d'));
              }
              return Object.fromEntries(Object.entries(found).map(([k, v]) => [k, [...v]]));
            }"""
        )
    names = {one.id for one in recorded("chosen")[0].candidates}
    looks = {
        name: one for found, one in colours.items() for name in names if found.startswith(name)
    }
    assert {"fp32", "int8-minmax", "int8-mse"} <= looks.keys()
    assert {len(one) for one in looks.values()} == {1}
    assert len({one[0] for one in looks.values()}) == len(looks)


def test_paper_is_white_however_dark_the_screen_is(browser, full):
    with shown(browser, full, 700, color_scheme="dark") as page:
        colour = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(colour) == "rgb(18, 21, 24)"
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(colour) == "rgb(255, 255, 255)"
        assert page.locator("thead").first.is_visible()


def test_hostile_names_do_nothing_and_nothing_is_fetched(browser, tmp_path):
    odd = "".join(text for name, text in HOSTILE.items() if name not in {"blank", "surrogate"})
    failing = replace(usual(odd)[2], failure=f"{odd}<script>document.title='run'</script>")
    file = tmp_path / "report.html"
    file.write_text(drawn([*usual(odd)[:2], failing], text=odd), "utf-8")
    seen: list[str] = []
    with shown(browser, file, 768) as page:
        page.on("request", lambda request: seen.append(request.url))
        page.on("dialog", lambda dialog: seen.append(dialog.message))
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.reload()
        page.mouse.move(100, 100)
        assert page.locator("script").count() == 0
        assert page.title() != "run"
        assert [one for one in seen if not one.startswith("data:image/")] == [file.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", WIDTHS_PX)
def test_axe_finds_nothing_in_the_page_of_choices(browser, tmp_path, width_px, scheme):
    odd = "".join(text for name, text in HOSTILE.items() if name not in {"blank", "surrogate"})
    view = View(findings=(Finding(name=odd, score=0.9, box=CORNERS),), count=1)
    scenes = [
        Scene(frame=choice, width=16, height=12, words=choice, views={"found": view})
        for choice in ("--pixels 0..1", f"--pixels {odd}")
    ]
    file = tmp_path / "look.html"
    file.write_text(render_look(odd, odd, scenes, png(), named=False), "utf-8")
    with shown(browser, file, width_px, color_scheme=scheme, bypass_csp=True) as page:
        assert violations(page) == ""
        assert hidden_px(page) <= 0
        assert page.locator("script").count() == 0
