"""Files of other devices' measurements: which rows are this model's, and what a bad file says."""

from __future__ import annotations

import pytest

from agent import config as configuration
from agent.core.errors import ConfigError
from agent.core.records import CleanModel, Digest, Platform
from agent.jobs.predicting import fleet

HERE = Platform(
    runtime="onnxruntime", runtime_version="1", scheme="U8S8", fp16_reason="",
    device="Some CPU", environment={"board": None},
)  # fmt: skip
MODEL = CleanModel(
    digest=Digest("m"), name="faces", sha256="ab", opset=17, inputs=(), outputs=(), macs=1,
    weight_bytes=1, activation_bytes=1, changes=(),
)  # fmt: skip


def asked(tmp_path, text: bytes, *, camera: str = "file:///x", fleet_csv: bool = True):
    file = tmp_path / "told.csv"
    file.write_bytes(text)
    config = configuration.from_dump(
        {
            "camera": {"uri": camera.format(file)},
            "model": {"name": "faces", "path": "/models/centerface.onnx"},
            "search": {"fleet": str(file) if fleet_csv else ""},
        }
    )
    return fleet(config, MODEL, HERE).figures


def test_the_model_is_known_by_its_name_its_file_and_its_digest(tmp_path):
    rows = b"model,precision,latency_ms,board\nfaces,fp32,3,\ncenterface.onnx,fp32,5,Some CPU\n"
    (found,) = asked(tmp_path, rows + b"ab,fp32,4,\nab,fp32,40,another CPU\n")
    assert (found.latency_ms, found.count, found.origin) == (4.0, 3, "told.csv")


def test_the_profile_of_the_frames_has_measurements_of_other_devices_too(tmp_path):
    rows = b"frame,model,precision,latency_ms\na.png,faces,int8,3\nb.png,faces,int8,5\n"
    (found,) = asked(tmp_path, rows, camera="profile://{}", fleet_csv=False)
    assert (found.precision, found.latency_ms) == ("int8", 4.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"model,precision,latency_ms\nfaces,fp32,soon\n", "line 2: latency_ms"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "no rows"),
    ],
)
def test_a_bad_file_is_an_error_that_names_it(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told) as raised:
        asked(tmp_path, text)
    assert "told.csv" in raised.value.message
    assert raised.value.code == "bad_fleet"


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    config = configuration.from_dump({"search": {"fleet": str(tmp_path / "none.csv")}})
    with pytest.raises(ConfigError, match=r"none\.csv: No such file"):
        fleet(config, MODEL, HERE)
