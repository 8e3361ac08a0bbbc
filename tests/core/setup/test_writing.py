"""The file that is written: valid TOML with the same values, whatever the strings contain."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from agent.core.setup.settings import Setting
from agent.core.setup.writing import toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = (
    TEXT | st.integers(-(2**53), 2**53) | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(TEXT, max_size=30).map(tuple)
)  # fmt: skip


@given(VALUES, TEXT, TEXT, TEXT)
def test_every_value_is_read_back_and_no_comment_becomes_a_key(value, origin, heading, note):
    setting = Setting(key="model.task.x", value=value, origin=origin)
    text = toml([setting], heading=heading, notes=[note])
    expected = list(value) if isinstance(value, tuple) else value
    assert tomllib.loads(text) == {"model": {"task": {"x": expected}}}


def test_tables_have_the_order_of_the_configuration_and_long_lists_are_wrapped():
    names = tuple(f"class {index}" for index in range(80))
    text = toml(
        [
            Setting(key="model.task.names", value=names, origin="metadata"),
            Setting(key="camera.uri", value="synthetic://", origin="--camera"),
        ],
        heading="Written.",
    )
    assert text.index("[camera]") < text.index("[model.task]")
    assert max(map(len, text.splitlines())) <= 100
    assert '\nuri = "synthetic://"    # --camera\n' in text
    assert "\n# names: metadata\nnames = [\n" in text
