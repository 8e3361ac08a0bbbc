"""The contract of `ports.Jobs`, kept by real child processes and by the scripted ones."""

from __future__ import annotations

import threading

import pytest

from agent import config as configuration
from agent.adapters.host.jobs import SubprocessJobs
from agent.config import Config
from agent.core.errors import JobError, RunnerError
from agent.core.records import Digest, Platform
from agent.wire.jobs import CheckRelease, FindPlatform, FindSensor, TimeTrial
from tests.fakes.jobs import FakeJobs

PLATFORM = Platform(
    runtime="onnxruntime", runtime_version="1", scheme="U8S8", fp16_reason="", device="cpu",
    environment={},
)  # fmt: skip


@pytest.fixture(params=["scripted", pytest.param("child process", marks=pytest.mark.slow)])
def jobs(request):
    """Return jobs of a machine without power sensors, stored models and releases."""
    if request.param == "child process":
        return SubprocessJobs(0)
    return FakeJobs(
        {
            "sensor": lambda _: "",
            "platform": lambda _: PLATFORM,
            "trial": lambda _: RunnerError("is gone from the store"),
            "check": lambda _: RunnerError("no model.json", code="bad_release"),
        }
    )


@pytest.fixture
def config(tmp_path) -> Config:
    return configuration.from_dump(
        {"storage": {"dir": str(tmp_path)}, "measure": {"power": "none"}}
    )


def run(jobs, spec, *, cancelled=False):
    event = threading.Event()
    if cancelled:
        event.set()
    return jobs.run(spec, progress=lambda *_: None, cancelled=event)


def test_the_result_is_of_the_class_that_the_spec_names(jobs, config):
    assert run(jobs, FindSensor(config=config)) == ""
    found = run(jobs, FindPlatform(config=config))
    assert (type(found), found.runtime) == (Platform, "onnxruntime")


def test_an_error_of_the_job_is_raised_with_its_class_and_code(jobs, config):
    trial = TimeTrial(
        config=config, digest=Digest("a"), work=config.storage.dir, model=Digest("b"), batch=1,
        platform=PLATFORM,
    )  # fmt: skip
    with pytest.raises(RunnerError, match="is gone from the store"):
        run(jobs, trial)
    with pytest.raises(RunnerError) as caught:
        run(jobs, CheckRelease(config=config, release="r1"))
    assert caught.value.code == "bad_release"


def test_a_job_that_is_cancelled_is_an_error(jobs, config):
    with pytest.raises(JobError) as caught:
        run(jobs, FindPlatform(config=config), cancelled=True)
    assert caught.value.code == "canceled"
