"""The whole job in the foreground, on a model and a scene that the project never saw."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
import pytest

from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow
_SCHEMAS = Path(__file__).parents[2] / "configs" / "schema"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("job")
    done = quantd("optimize", "-c", write_config(folder), "--output", folder / "out", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def test_the_report_keeps_the_contract(finished: tuple[dict, Path]) -> None:
    report, folder = finished
    jsonschema.validate(report, json.loads((_SCHEMAS / "report.json").read_bytes()))
    assert json.loads((folder / "out" / "report.json").read_bytes()) == report
    assert report["schema"] == 1
    assert report["device"] == "cam-1"
    assert report["calibration"]["frames"] == 8
    assert report["calibration"]["holdout"] == 4
    by_id = {c["id"]: c for c in report["candidates"]}
    assert {"fp32", "int8-minmax", "int8-entropy"} <= set(by_id)
    for name in ("fp32", "int8-minmax", "int8-entropy"):
        latency = by_id[name]["measured"]["latency_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
        assert by_id[name]["engine"]["bytes"] > 0
    assert by_id["int8-entropy"]["int8_macs_fraction"] > 0.9
    assert by_id["int8-entropy"]["fidelity"]["sqnr_db"] > 10
    assert by_id["fp32"]["fidelity"]["sqnr_db"] is None
    assert by_id["fp32"]["fidelity"]["sqnr_reason"] == "identical to the baseline"


def test_the_report_says_where_int8_and_fp32_spend_their_time(finished: tuple[dict, Path]) -> None:
    report, folder = finished
    times = {c["id"]: c["layer_times"] for c in report["candidates"] if c["layer_times"]}
    assert times["fp32"]["against_baseline"] is None
    (integer,) = (name for name in times if name.startswith("int8"))
    change = times[integer]["against_baseline"]
    assert change["baseline"] == "fp32"
    parts = ("slower_us", "faster_us", "conversions_us", "between_us")
    assert sum(change[part] for part in parts) == pytest.approx(change["difference_us"], abs=1)
    for found in times.values():
        layers_us = sum(one["time_us"] + one["conversions_us"] for one in found["layers"])
        assert 0 < layers_us <= found["inference_us"] + 1
    assert f"{integer}: its layers against fp32" in (folder / "out" / "report.html").read_text()
    for one in report["candidates"]:
        assert (one["layer_times"] is None) == bool(one["layer_times_reason"])


def test_what_was_not_measured_is_null_with_a_reason(finished: tuple[dict, Path]) -> None:
    report, _ = finished
    for one in report["candidates"]:
        assert one["reasons"]
        measured = one["measured"]
        if measured is not None and measured["power_w"] is None:
            assert measured["power_reason"]
            assert measured["energy_j"] is None
            assert measured["energy_reason"]
        if one["predicted"]["latency_p50_ms"] is None:
            assert one["predicted"]["basis"]


def test_the_release_loads_in_plain_onnxruntime(finished: tuple[dict, Path]) -> None:
    report, folder = finished
    current = folder / "state" / "current"
    facts = json.loads((current / "model.json").read_bytes())
    jsonschema.validate(facts, json.loads((_SCHEMAS / "model.json").read_bytes()))
    session = onnxruntime.InferenceSession(str(current / facts["engine"]["file"]))
    (image,) = facts["inputs"]
    (mask,) = session.run(None, {image["name"]: np.zeros(image["shape"], image["dtype"])})
    assert mask.shape == tuple(facts["outputs"][0]["shape"])
    assert facts["candidate"] == report["choice"]["candidate"]
    assert json.loads((current / "report.json").read_bytes())["run_id"] == report["run_id"]


def test_the_page_stands_alone(finished: tuple[dict, Path]) -> None:
    _, folder = finished
    page = (folder / "out" / "report.html").read_text()
    assert page.count("<svg") >= 3
    assert "data:image/jpeg;base64," in page
    assert 'src="http' not in page
    assert "<script" not in page
    assert page.count('<figure class="scene"') == 4
    assert re.search(
        r'aria-label="A frame of the camera. IoU [01].[0-9]{2}. fp32: foreground', page
    )


def test_pictures_are_in_the_page_and_among_the_stored_frames_alone(
    finished: tuple[dict, Path],
) -> None:
    _, folder = finished
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if path.suffix == ".jpg"]
    pages = {path.name for path in files if b"data:image" in path.read_bytes()}
    assert pages == {"report.html"}


def test_looking_at_it_afterwards(finished: tuple[dict, Path]) -> None:
    report, folder = finished
    config = folder / "quantd.toml"
    status = json.loads(quantd("status", "-c", config, "--json").stdout)
    assert status["active release"] == report["activation"]["release"]
    assert json.loads(quantd("report", "-c", config, "--json").stdout) == report
    for verb in ("status", "report", "check-config"):
        shown = quantd(verb, "-c", config)
        assert shown.returncode == 0, shown.stderr


def test_an_impossible_limit_is_an_answer_and_changes_nothing(
    finished: tuple[dict, Path], tmp_path: Path
) -> None:
    _, folder = finished
    state = tmp_path / "state"  # of its own: the other tests look at the first one's last run
    shutil.copytree(folder / "state", state, symlinks=True)
    before = (state / "current").readlink()
    config = write_config(
        tmp_path,
        limits={"latency_p99_ms": 0.0001},
        search={"precisions": ["fp32"]},
        storage={"dir": str(state)},
        report={"thumbnails": False},
    )
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    page = (state / "runs" / report["run_id"] / "report.html").read_text()
    assert "data:image" not in page
    assert 'class="scene' not in page
    assert report["choice"]["infeasible"]
    assert report["choice"]["candidate"] is None
    assert report["choice"]["nearest_miss"] == "fp32"
    assert "latency_p99_ms" in report["choice"]["why"]
    assert report["activation"]["state"] == "not_attempted"
    assert (state / "current").readlink() == before


def test_stages_one_by_one(tmp_path: Path) -> None:
    config = write_config(tmp_path, search={"precisions": ["fp32"]})
    for verb in ("capture", "quantize", "build", "measure", "choose", "activate"):
        done = quantd(verb, "-c", config, "--json")
        assert done.returncode == 0, f"{verb}: {done.stderr}"
        json.loads(done.stdout)
    assert (tmp_path / "state" / "current" / "model.json").is_file()
    measured_again = quantd("measure", "-c", config)
    assert (measured_again.returncode, measured_again.stdout) == (0, "")
    assert re.search(r"fp32 .* exact .* chosen", measured_again.stderr)
    assert "measured: " in measured_again.stderr
    again = quantd("rollback", "-c", config, "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout)["error"]["code"] == "activation"


def test_a_fast_search_chooses_and_where_nothing_fits_measures_all_candidates(
    tmp_path: Path,
) -> None:
    config = write_config(
        tmp_path,
        search={
            "precisions": ["fp32", "int8"], "strategy": "fast", "calibrators": ["minmax", "mse"]
        },
    )  # fmt: skip
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    chosen = next(c for c in report["candidates"] if c["verdict"] == "chosen")
    assert chosen["measured"]["rounds"] == 3
    config.write_text(config.read_text() + "[limits]\nlatency_p99_ms = 0.0001\n")
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)["candidates"]
    assert all(one["measured"]["rounds"] == 3 for one in found)


def test_a_page_that_can_not_be_drawn_costs_nothing_but_itself(tmp_path: Path) -> None:
    config = write_config(tmp_path, search={"precisions": ["fp32"]})
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "jinja2.py").write_text("raise RuntimeError('no templates here')\n")
    done = quantd("optimize", "-c", config, "--json", PYTHONPATH=broken)
    assert done.returncode == 0, done.stderr
    assert "page_failed" in done.stderr
    assert json.loads(done.stdout)["activation"]["state"] == "active"
    assert (tmp_path / "state" / "current" / "report.json").is_file()


def test_a_run_that_fails_leaves_no_image_where_only_statistics_may_stay(tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        search={"precisions": ["fp32"]},
        calibration={"keep": "stats", "frames": 4},
        model_task={"kind": "classification", "labels": str(tmp_path / "none.csv")},
    )
    done = quantd("optimize", "-c", config, "--json")
    assert done.returncode != 0
    assert not [p for p in (tmp_path / "state").rglob("*") if p.suffix in {".png", ".jpg"}]


@pytest.fixture(scope="module")
def frugal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    """Two runs without storage.dir that keep no image; returns their folder and their reports."""
    folder = tmp_path_factory.mktemp("frugal")
    (folder / "home").mkdir()
    config = write_config(
        folder,
        search={"precisions": ["fp32", "int8"], "calibrators": ["minmax"]},
        calibration={"keep": "stats", "extend": True, "frames": 8, "holdout": 4},
    )
    text = config.read_text()
    config.write_text(text[: text.index("[storage]")])
    reports = []
    for _ in range(2):
        done = quantd("optimize", "-c", config, "--output", folder / "out", "--json",
                      HOME=folder / "home")  # fmt: skip
        assert done.returncode == 0, done.stderr
        reports.append(json.loads(done.stdout))
        assert not list((folder / "out").rglob("*.png"))
    return folder, reports


def test_no_storage_dir_means_the_output_folder(frugal: tuple[Path, list[dict]]) -> None:
    folder, _ = frugal
    assert (folder / "out" / "current" / "model.json").is_file()
    assert (folder / "out" / "report.json").is_file()


def test_where_only_statistics_may_stay_no_image_and_no_identity_stays(
    frugal: tuple[Path, list[dict]],
) -> None:
    folder, _ = frugal
    assert not list((folder / "home").rglob("*onnxruntime*"))
    left = [p for p in (folder / "out").rglob("*") if p.suffix in {".png", ".jpg", ".npy"}]
    assert left == []
    pages = list((folder / "out").glob("runs/*/report.html"))
    assert len(pages) == 2
    assert not [page for page in pages if "data:image" in page.read_text()]


def test_a_later_run_adds_its_frames_to_those_whose_images_were_removed(
    frugal: tuple[Path, list[dict]],
) -> None:
    folder, reports = frugal
    found = [report["calibration"] for report in reports]
    seen = [(one["frames"], one["scale_frames"], one["scale_captures"]) for one in found]
    assert seen == [(8, 8, 1), (8, 16, 2)]
    assert [one["not_extended"] for one in found] == ["", ""]
    again = quantd("optimize", "-c", folder / "quantd.toml", "--output", folder / "out", "--json",
                   "--reuse-calibration")  # fmt: skip
    assert again.returncode == 1
    assert json.loads(again.stdout)["error"]["code"] == "calibration_gone"
