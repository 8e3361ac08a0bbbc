"""The page of `quantd init --look`: each choice with its answers, names and text inert."""

from __future__ import annotations

from agent.core.records import Finding, Scene, View
from agent.page.look import render_look

BOX = ((10.0, 20.0), (110.0, 20.0), (110.0, 220.0), (10.0, 220.0))
HOSTILE = "</title><script>alert(1)</script>"


def scene(choice: str, name: str = "person") -> Scene:
    found = View(findings=(Finding(name=name, score=0.9, box=BOX),), count=1)
    return Scene(frame=choice, width=640, height=480, words=choice, views={"found": found})


def test_each_choice_has_the_frame_and_its_answers():
    scenes = [scene("--pixels 0..1"), scene("--pixels 0..255", "dog")]
    page = render_look("m.onnx", "synthetic://", scenes, b"jpeg", named=True)
    assert page.count("data:image/jpeg") == 2
    assert page.index("--pixels 0..1") < page.index("person (0.90)") < page.index("dog (0.90)")
    assert "M10,20 110,20 110,220 10,220Z" in page
    assert "--names" not in page
    assert "--names" in render_look("m.onnx", "synthetic://", scenes, b"jpeg", named=False)


def test_names_from_the_model_are_text():
    page = render_look(HOSTILE, HOSTILE, [scene(HOSTILE, HOSTILE)], b"", named=True)
    assert "<script>" not in page
    assert "default-src 'none'" in page


def test_text_that_would_be_shown_as_another_is_escaped():
    """Also on this page, which has its own template: a bidirectional override, a lone surrogate."""
    page = render_look("a\u202eb\udce9.onnx", "synthetic://", [scene("x\u202ey")], b"", named=True)
    assert r"a\u202eb\udce9.onnx" in page
    assert "\u202e" not in page
