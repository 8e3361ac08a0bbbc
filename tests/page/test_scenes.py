"""Results drawn over pictures: both engines apart without colour, and the same in words."""

from __future__ import annotations

import html.parser

import pytest

from agent.core.records import Finding, Scene, Scenes, View
from agent.page.render import render
from agent.page.scenes import named
from tests.support.candidates import candidate, evaluation, measurement
from tests.support.reports import report_of

BOX = ((10.0, 20.0), (110.0, 20.0), (110.0, 220.0), (10.0, 220.0))


class Marks(html.parser.HTMLParser):
    """Every tag with its attributes, and the text of captions."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.caption = self.drawn = ""
        self._inside = False
        self.feed(page[page.index('<div class="scenes"') : page.index('<h2 id="candidates"')])

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = self._inside or tag == "figcaption"

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "figcaption"

    def handle_data(self, data):
        self.drawn += data
        self.caption += data if self._inside else ""


def scene(name: str = "person", **views: View) -> Scene:
    both = {
        "fp32": View(findings=(Finding(name=name, score=0.923, box=BOX),), count=1),
        "int8-mse": View(
            findings=(Finding(name=name, score=0.9, mask="M1 2h3v4z", points=((5.0, 6.0),)),),
            count=1,
        ),
    }
    return Scene(
        frame="00000007.png", width=640, height=480, words=f"1 {name} each", views=views or both
    )


def drawn(scenes: Scenes, pictures: dict[str, bytes]) -> str:
    found = [candidate(name, measurement(5.0), evaluation()) for name in ("fp32", "int8-mse")]
    return render(report_of(found), (), {}, scenes=scenes, frames=pictures)


def test_both_results_lie_over_the_picture_in_its_own_pixels():
    page = Marks(drawn(Scenes(scenes=(scene(),)), {"00000007.png": b"jpeg"}))
    (svg,) = [one for tag, one in page.found if tag == "svg" and "aria-label" in one]
    assert svg["viewbox"] == "0 0 640 480"
    (image,) = [one for tag, one in page.found if tag == "image"]
    assert (image["width"], image["height"]) == ("640", "480")
    assert image["href"] == "data:image/jpeg;base64,anBlZw=="
    outlines = [one["d"] for tag, one in page.found if one.get("class") == "over"]
    assert outlines == ["M1 2h3v4z", "M10,20 110,20 110,220 10,220Z"]
    assert [one["cx"] for tag, one in page.found if tag == "circle"] == ["5.0"]


def test_a_reader_without_the_picture_has_the_results_in_words():
    page = Marks(drawn(Scenes(scenes=(scene(),)), {"00000007.png": b"jpeg"}))
    (words,) = [one["aria-label"] for tag, one in page.found if "aria-label" in one]
    assert (
        words
        == "A frame of the camera. 1 person each. fp32: person (0.92). int8-mse: person (0.90)."
    )
    assert "fp32: person (0.92)" in page.caption
    assert [one["class"] for tag, one in page.found if tag == "b"] == ["key baseline", "key other"]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '" onload="alert(1)', "a\x1b[2Jb"])
def test_the_name_of_a_class_is_never_markup(name):
    text = drawn(Scenes(scenes=(scene(name),)), {"00000007.png": b"jpeg"})
    page = Marks(text)
    assert "script" not in [tag for tag, _ in page.found]
    assert not [key for _, one in page.found for key in one if key.startswith("on")]
    assert "\x1b" not in text


def test_names_are_beside_their_boxes_where_they_differ_and_once_for_both_engines():
    both = View(
        findings=(Finding(name="a" * 30, score=0.9, box=BOX), Finding(name="car", box=BOX)), count=2
    )
    two = scene(**{"fp32": both, "int8-mse": both})
    page = Marks(drawn(Scenes(scenes=(two,)), {"00000007.png": b"jpeg"}))
    texts = [one for tag, one in page.found if tag == "text"]
    assert [(one["x"], one["font-size"]) for one in texts] == [("10.0", "26.7")] * 2
    assert "…" in page.drawn
    same = Marks(drawn(Scenes(scenes=(scene(),)), {"00000007.png": b"jpeg"}))
    assert "text" not in [tag for tag, _ in same.found]


def test_many_findings_are_counted_and_none_is_called_nothing():
    seven = View(findings=(Finding(name="car", score=0.5),) * 6, count=7)
    assert named(seven) == ", ".join(["car (0.50)"] * 5) + " and 2 more"
    assert named(View(findings=(), count=0)) == "nothing"


def test_without_pictures_there_is_no_figure_and_a_reason_is_shown():
    assert "<figure class=" not in drawn(Scenes(scenes=(scene(),)), {})
    assert "the engine crashed" in drawn(Scenes(reason="the engine crashed"), {})
    assert 'class="scenes"' not in drawn(Scenes(), {})
