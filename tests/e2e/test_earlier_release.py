"""A release of schema 1, as an earlier version left it: activated, rolled back to, then made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agent.client import Release, ReleaseError
from tests.support.scene import quantd, write_config

pytestmark = pytest.mark.slow

LATER = ("task",)
LATER_OF_RUNTIME = ("dla_core", "threads", "providers", "provider_options")
LATER_OF_PREPROCESS = ("grey_weights", "interpolation", "pad_value", "centered")


def as_schema_1(release: Path) -> None:
    """Write model.json as schema 1 had it."""
    found = json.loads((release / "model.json").read_bytes())
    for key in LATER:
        del found[key]
    for key in LATER_OF_RUNTIME:
        del found["runtime"][key]
    for key in LATER_OF_PREPROCESS:
        del found["preprocess"][key]
    del found["lineage"]["baseline"]
    found |= {"schema": 1, "identity": "of schema 1", "release": release.name}
    (release / "model.json").write_text(json.dumps(found))


def test_a_release_of_schema_1_stays_usable_until_a_run_makes_it_again(tmp_path: Path) -> None:
    config = write_config(tmp_path, search={"precisions": ["fp32"]})
    done = quantd("optimize", "-c", config)
    assert done.returncode == 0, done.stderr
    current = tmp_path / "state" / "current"
    made = current.resolve()
    earlier = made.with_name("20250101T000000000-0001")
    shutil.copytree(made, earlier)
    as_schema_1(earlier)

    for verb in (("activate", earlier.name), ("activate", made.name), ("rollback",)):
        done = quantd(*verb, "-c", config)
        assert done.returncode == 0, done.stderr
    assert current.resolve() == earlier
    with pytest.raises(ReleaseError, match="schema 1") as caught, Release(current):
        pass
    assert "`quantd optimize`" in caught.value.hint

    done = quantd("optimize", "-c", config, "--reuse-calibration", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["activation"]["state"] == "active"
    with Release(current) as release:
        assert (
            release.description["engine"]
            == json.loads((earlier / "model.json").read_bytes())["engine"]
        )
