"""COCO JSON files as people, tools and vandals write them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import ConfigError
from agent.jobs import coco
from agent.jobs.coco import parse_coco

NAMES = {"a.jpg", "b.jpg"}


def labels(**changes: Any) -> dict[str, Any]:
    """Return a small file with changes of its tables."""
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 640, "height": 480, "license": 3},
            {"id": 9, "file_name": "val2017/b.jpg"},
            {"id": 8, "file_name": "other.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2.5, 30, 40], "area": 900},
            {"id": 2, "image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]},
            {"id": 3, "image_id": 9, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}],
        **changes,
    }


def written(**changes: Any) -> bytes:
    return json.dumps(labels(**changes)).encode()


def test_the_boxes_of_the_frames_are_read():
    found = parse_coco(written(), {"a.jpg", "b.jpg", "c.jpg"})
    assert list(found.categories.items()) == [(1, "person"), (3, "car")]
    first, second = found.images["a.jpg"], found.images["b.jpg"]
    assert found.images.keys() == {"a.jpg", "b.jpg"}
    assert (first.size, first.boxes, first.categories, first.crowd) == (
        (640, 480),
        [(1, 2.5, 30, 40)],
        [3],
        [False],
    )
    assert (second.size, second.crowd) == (None, [True])
    assert found.known == ["a.jpg", "val2017/b.jpg", "other.jpg"]


def test_an_image_without_boxes_is_known_to_be_empty():
    assert parse_coco(written(annotations=[]), {"a.jpg"}).images["a.jpg"].boxes == []


def test_a_name_with_folders_may_be_the_name_of_the_frame():
    images = [{"id": 7, "file_name": "x/a.jpg"}, {"id": 8, "file_name": "y/a.jpg"}]
    found = parse_coco(written(images=images, annotations=[]), {"x/a.jpg", "y/a.jpg"})
    assert found.images.keys() == {"x/a.jpg", "y/a.jpg"}
    with pytest.raises(ConfigError, match=r"images\[1\] is 'a.jpg' once more"):
        parse_coco(written(images=images, annotations=[]), {"a.jpg"})


def test_a_byte_order_mark_is_no_damage():
    assert parse_coco(b"\xef\xbb\xbf" + written(), {"a.jpg"}).images


def annotation(**changes: Any) -> bytes:
    one = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], **changes}
    return written(annotations=[labels()["annotations"][1], one])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "truncated"),
        (written()[:-20], "truncated"),
        (b"\xff\xfe\x00", "malformed"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b"\x00" * 99, "malformed"),
        (b'{"info":' + b"[" * 100_000, "nested too deeply"),
        (written(annotations=[1] * 9), r"Expected `object`, got `int` at annotations\[0\]"),
        (b'{"images": []}', "missing required field `annotations`"),
        (written(images={}), "Expected `array`, got `object` at images"),
        (written(categories=[]), "categories is empty"),
        (written(categories=[{"id": "x", "name": "y"}]), "got `str` at categories"),
        (written(categories=[{"id": 3, "name": "a"}] * 2), "two categories have the same id"),
        (written(images=[{"id": 7, "file_name": "a.jpg"}] * 2), r"images\[1\] has the id 7 of"),
        (written(images=[{"id": 7}]), r"missing required field `file_name` at images\[0\]"),
        (written(images=[{"id": 7, "file_name": "a", "width": -1}]), r">= 1 at images\[0\]\.width"),
        (annotation(bbox=[1, 2, 3]), r"length 4 at annotations\[1\]\.bbox"),
        (annotation(bbox=[1, 2, -3, 4]), r">= 0\.0 at annotations\[1\]\.bbox\[2\]"),
        (annotation(bbox=[1, "2", 3, 4]), r"got `str` at annotations\[1\]\.bbox\[1\]"),
        (annotation(bbox=[float("nan"), 2, 3, 4]), "malformed"),
        (annotation(bbox=[float("inf"), 2, 3, 4]), "malformed"),
        (annotation(bbox=[1e300, 2, 3, 4]), r"<= 1000000\.0 at annotations\[1\]\.bbox\[0\]"),
        (annotation(bbox=None), r"got `null` at annotations\[1\]\.bbox"),
        (annotation(iscrowd=2), r"<= 1 at annotations\[1\]\.iscrowd"),
        (annotation(image_id=4), r"annotations\[1\] is of image 4, which is not in images"),
        (annotation(category_id=2), r"annotations\[1\] is of category 2, which is not in cat"),
        (
            written(annotations=[labels()["annotations"][0]] * 2),
            r"annotations\[1\] has the id 1 of another",
        ),
    ],
)
def test_what_is_wrong_is_named(content, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_coco(content, {"a.jpg"})
    assert caught.value.code == "bad_labels"
    assert "$" not in str(caught.value)


def test_the_boxes_of_an_image_are_limited(monkeypatch):
    monkeypatch.setattr(coco, "_MOST_BOXES", 1)
    parse_coco(written(), {"a.jpg"})
    with pytest.raises(ConfigError, match="image 7 has more than 1 annotations"):
        parse_coco(
            written(
                annotations=[{**labels()["annotations"][0], "id": number} for number in (1, 2)]
            ),
            {"a.jpg"},
        )


@given(data=st.data())
def test_damage_is_an_error_or_harmless_but_never_a_crash(data):
    content = bytearray(written())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(ConfigError):
        assert parse_coco(bytes(content), NAMES).images.keys() <= NAMES
