import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.errors import CameraError
from agent.core.frames.profile import parse_profile

NAMES = st.text("abcXYZ019_-./ ,\"'é", min_size=1, max_size=12).filter(lambda t: t.strip())


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            NAMES,
            st.floats(1e-3, 1e6),
            st.one_of(st.none(), st.floats(0, 1e4)),
            st.one_of(st.none(), st.integers(1, 999)),
        ),
        min_size=1,
        max_size=20,
    ),
    order=st.permutations(["frame", "latency_ms", "power_w", "batch", "note"]),
)
def test_what_was_written_is_read_in_any_order_of_columns(rows, order) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, order)
    writer.writeheader()
    for frame, latency_ms, power_w, batch in rows:
        writer.writerow(
            {"frame": frame, "latency_ms": latency_ms, "power_w": power_w, "batch": batch}
        )
    read = parse_profile(io.StringIO(text.getvalue(), newline=""))
    assert [(r.frame, r.latency_ms, r.power_w, r.batch) for r in read] == [
        (frame.strip(), latency_ms, power_w, batch) for frame, latency_ms, power_w, batch in rows
    ]


@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_text_is_read_or_refused(lines: list[str]) -> None:
    try:
        rows = parse_profile([line + "\n" for line in lines])
    except CameraError:
        return
    assert rows


def test_all_columns() -> None:
    text = (
        "Precision,video,timestamp,frame_index,latency_ms,power_w,model,batch\n"
        "INT8,clip.avi,2026-01-02T03:04:05Z,7,4.25,6.5,faces,2\n"
        "\n"
        "fp16,clip.avi,12.5,8,,,,\n"
    )
    first, second = parse_profile(text.splitlines(keepends=True))
    assert (first.line, first.frame, first.frame_index) == (2, "clip.avi", 7)
    assert first.timestamp_s == 1767323045.0
    assert (first.latency_ms, first.power_w, first.batch) == (4.25, 6.5, 2)
    assert (first.model, first.precision) == ("faces", "int8")
    assert (second.line, second.timestamp_s) == (4, 12.5)
    assert second.latency_ms is second.power_w is second.batch is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither the column frame nor"),
        ("video,latency_ms\na.mp4,1\n", "neither the column frame nor"),
        ("frame\n", "no rows"),
        ("frame,frame\na,b\n", "names the column frame twice"),
        ("frame,latency_ms\na.png,0\n", "line 2: latency_ms = '0' is not a number > 0"),
        ("frame,latency_ms\na.png,1\nb.png,nan\n", "line 3: latency_ms = 'nan'"),
        ("frame,latency_ms\na.png,fast\n", "line 2: latency_ms = 'fast'"),
        ("frame,power_w\na.png,-1\n", "line 2: power_w = '-1' is not a number >= 0"),
        ("frame,power_w\na.png,inf\n", "line 2: power_w = 'inf'"),
        ("frame,batch\na.png,1.5\n", "line 2: batch = '1.5' is not a whole number >= 1"),
        ("frame,timestamp\na.png,noon\n", "line 2: timestamp = 'noon'"),
        ("video,frame_index\na.mp4,-1\n", "line 2: frame_index = '-1'"),
        ("video,frame_index\na.mp4,\n", "line 2: names a video without a frame_index"),
        ("frame,video,frame_index\na.png,b.mp4,1\n", "line 2: names both"),
        ("frame,power_w\n,5\n", "line 2: names no frame or video"),
        ("frame,power_w\na.png\n", "line 2: has 1 cells, the header has 2"),
        ('frame,power_w\n"a.png"x,1\n', "line 2: is not CSV"),
    ],
)
def test_a_bad_profile_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(CameraError) as error:
        parse_profile(text.splitlines(keepends=True))
    assert words in error.value.message
    assert error.value.code == "bad_profile"
