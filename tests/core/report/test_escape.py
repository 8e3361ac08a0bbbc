"""Text from outside, made safe to show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.report.wording import escape_unprintable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("faces.onnx", "faces.onnx"),
        ("<b> & $x$", "<b> & $x$"),
        ("漢字 café", "漢字 café"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("no\u00a0break", "no\u00a0break"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("caf\udce9", "caf\\udce9"),
        ("ten\r20", "ten\\r20"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x00\x07\x9b", "\\x00\\x07\\x9b"),
    ],
)
def test_what_is_not_seen_is_written_out(text, shown):
    assert escape_unprintable(text) == shown


@given(text=st.text(st.characters() | st.characters(categories=["Cs", "Cc", "Cf"])))
def test_anything_becomes_bytes_without_control(text):
    shown = escape_unprintable(text)
    assert all(one.isprintable() or one.isspace() for one in shown)
    assert not set(shown) & {"\x1b", "\r", "\x9b", "\u202e", "\u2066"}
    assert shown.encode().decode() == shown
    assert escape_unprintable(shown) == shown
