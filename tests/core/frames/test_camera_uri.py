import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import ConfigError
from agent.core.frames.camera_uri import CAMERAS, camera_kind, path_of, redacted, scheme_of


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://user:secret@10.0.0.9:554/1", "rtsp://***@10.0.0.9:554/1"),
        ("RTSP://user:secret@10.0.0.9/1", "RTSP://***@10.0.0.9/1"),
        ("http://u:p/w@d@cam/x", "http://***@cam/x"),
        ("http://u:12/3@cam/x", "http://***@cam/x"),
        ("http://cam/x.cgi?user=a&pwd=b&res=640", "http://cam/x.cgi?user=***&pwd=***&res=640"),
        ("https://cam/x?access_token=abc#top", "https://cam/x?access_token=***#top"),
        ("rtsp://10.0.0.9/1", "rtsp://10.0.0.9/1"),
        ("file:///clips/me@home.mp4", "file:///clips/me@home.mp4"),
        ("v4l2:///dev/video0", "v4l2:///dev/video0"),
        ("nonsense", "nonsense"),
        ("rstp://user:secret@10.0.0.9/1", "rstp://***@10.0.0.9/1"),
        ("rtsp:/user:secret@10.0.0.9/1", "***@10.0.0.9/1"),
        ("user:secret@10.0.0.9", "***@10.0.0.9"),
        ("rtmp://cam/x?token=abc", "rtmp://cam/x?token=***"),
        ("v4l2://user:secret@host/dev/video0", "v4l2://***@host/dev/video0"),
        ("images:///frames/me@home", "images:///frames/me@home"),
    ],
)
def test_a_uri_is_shown_without_its_credentials(uri: str, shown: str) -> None:
    assert redacted(uri) == shown


@given(
    scheme=st.one_of(
        st.sampled_from(["rtsp", "rtsps", "http", "https", "HTTP"]),
        st.from_regex(r"[a-z0-9+.-]{1,8}", fullmatch=True).filter(lambda s: s not in CAMERAS),
    ),
    password=st.text(min_size=1, max_size=20),
)
def test_no_password_survives_however_it_is_written(scheme: str, password: str) -> None:
    assert redacted(f"{scheme}://user:{password}@host/cam") == f"{scheme}://***@host/cam"


@given(st.text(max_size=60))
def test_showing_is_total_and_stable(uri: str) -> None:
    assert redacted(redacted(uri)) == redacted(uri)
    scheme_of(uri)
    path_of(uri)


def test_a_path_may_be_percent_encoded_or_not() -> None:
    assert path_of("file:///a%20b.mp4") == "/a b.mp4"
    assert path_of("file://clip.mp4") == "clip.mp4"
    assert path_of("v4l2:///dev/video0") == "/dev/video0"


@pytest.mark.parametrize("scheme", ["v4l2", "file", "images", "csi"])
def test_a_source_on_this_device_has_no_password(scheme: str) -> None:
    with pytest.raises(ConfigError) as caught:
        camera_kind(f"{scheme}://user:secret@host/dev/video0")
    assert "secret" not in str(caught.value)
    camera_kind(f"{scheme}://me@home/clip:1.mp4")
    camera_kind(f"{scheme}:///user:secret@host")
