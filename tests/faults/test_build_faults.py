"""A build that is cancelled, hangs, starves or is killed: a result, within its time."""

from __future__ import annotations

import re
import resource
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from agent import config as configuration
from agent.adapters.host.jobs import SubprocessJobs
from agent.core.errors import BuildError, JobError, QuantdError, RunnerError
from agent.wire.jobs import BuildEngine
from agent.wiring import runs
from tests.support.engine_builds import CAPABILITY, build_job, require_tensorrt, slow_to_build
from tests.support.scene import write_config

pytestmark = pytest.mark.slow
_LAYERS = 1200  # about 3 s of building, nearly all of it in one step of TensorRT's


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    require_tensorrt()
    return slow_to_build(tmp_path_factory.mktemp("slow") / "model.onnx", _LAYERS)


def built(spec, cruelty=lambda child: None, *, cancelled=None):
    """Build, and do something to the child when TensorRT reports that it has begun."""
    begun = []

    def progress(*_):
        if not begun:
            begun.append(True)
            (child,) = psutil.Process().children()
            cruelty(child)

    return SubprocessJobs().run(spec, progress=progress, cancelled=cancelled or threading.Event())


def starve(mebibytes):
    def limit(child):
        most = child.memory_info().vms + (mebibytes << 20)
        resource.prlimit(child.pid, resource.RLIMIT_AS, (most, most))

    return limit


def test_cancelling_takes_less_than_two_seconds(tmp_path, graph):
    cancelled = threading.Event()
    asked = []

    def cancel():
        asked.append(time.monotonic())
        cancelled.set()

    def later(_):
        threading.Timer(0.5, cancel).start()  # deep inside TensorRT by then

    with pytest.raises(JobError) as caught:
        built(build_job(tmp_path, graph), later, cancelled=cancelled)
    assert time.monotonic() - asked[0] < 1.0
    assert caught.value.code == "canceled"
    assert psutil.Process().children() == []
    assert not list((tmp_path / "work").glob("engine.plan"))


def test_a_build_that_hangs_is_ended_at_its_time_limit(tmp_path, graph, monkeypatch):
    monkeypatch.setattr(BuildEngine, "limit_s", 3.0)
    begin = time.monotonic()
    with pytest.raises(JobError, match="not finished within 3 s") as caught:
        built(build_job(tmp_path, graph), lambda child: child.send_signal(signal.SIGSTOP))
    assert caught.value.code == "timed_out"
    assert "runtime.builder_level" in caught.value.hint
    assert 3 <= time.monotonic() - begin < 8
    assert psutil.Process().children() == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [(signal.SIGKILL, "lower runtime.workspace_mb"), (signal.SIGSEGV, "stderr")],
)
def test_a_killed_build_has_the_signal_as_its_reason(tmp_path, graph, number, advice):
    with pytest.raises(JobError, match=f"build: killed by {number.name}") as caught:
        built(build_job(tmp_path, graph), lambda child: child.send_signal(number))
    assert caught.value.code == "died"
    assert advice in caught.value.hint


@pytest.mark.parametrize("mebibytes", [1, 40, 100])
def test_a_build_without_memory_is_a_failure_in_words(tmp_path, graph, mebibytes):
    with pytest.raises(QuantdError) as caught:
        built(build_job(tmp_path, graph), starve(mebibytes))
    assert isinstance(caught.value, (BuildError, JobError))
    assert caught.value.message
    assert "memory" in caught.value.hint or caught.value.code == "died"
    assert psutil.Process().children() == []


def test_a_damaged_graph_is_a_failure_in_words(tmp_path, graph):
    body = bytearray(Path(graph).read_bytes())
    body[len(body) // 2 :] = b"\xff" * (len(body) - len(body) // 2)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(body)
    with pytest.raises(BuildError, match="can't parse the graph"):
        built(build_job(tmp_path, str(damaged)))


def test_a_graph_that_decayed_in_the_store_is_not_built(tmp_path, graph):
    spec = build_job(tmp_path, graph)
    stored = tmp_path / "state" / "artifacts" / spec.quantized / "model.onnx"
    body = bytearray(stored.read_bytes())
    body[len(body) // 2] ^= 1  # same size, another weight: TensorRT would take it
    stored.write_bytes(body)
    with pytest.raises(RunnerError, match="is gone from the store"):
        built(spec)
    assert not stored.exists()  # set aside, to be made again by the next run


def test_a_job_that_leaves_too_little_memory_is_ended_before_the_kernel_does_it(tmp_path, graph):
    """Real memory, with a reserve that the machine can't keep free."""
    begin = time.monotonic()
    with pytest.raises(JobError, match=r"build: ended at \d+ MB") as caught:
        SubprocessJobs(reserve_bytes=1 << 60).run(
            build_job(tmp_path, graph), progress=lambda *_: None, cancelled=threading.Event()
        )
    assert caught.value.code == "no_memory"
    assert re.search(r"\d+ MB of memory were left", caught.value.message)
    assert "runtime.workspace_mb" in caught.value.hint
    assert time.monotonic() - begin < 10
    assert psutil.Process().children() == []


def test_a_killed_build_reports_its_own_peak(tmp_path, graph):
    resident_mb = []

    def stop_then_kill(child):
        child.suspend()  # is stopped, so that its memory can be compared
        resident_mb.append(child.memory_info().rss / 1e6)
        time.sleep(1.0)  # ten checks by the watching thread
        child.kill()

    def in_a_moment(child):
        threading.Timer(0.5, stop_then_kill, [child]).start()

    with pytest.raises(JobError, match=r"killed by SIGKILL at (\d+) MB") as caught:
        built(build_job(tmp_path, graph), in_a_moment)
    seen_mb = int(re.search(r"at (\d+) MB", caught.value.message)[1])
    assert resident_mb[0] - 1 <= seen_mb < 8000


def test_a_run_continues_with_the_other_candidates(tmp_path):
    require_tensorrt()
    config = configuration.load(
        write_config(
            tmp_path,
            search={"precisions": ["fp32", "fp16", "int8"], "calibrators": ["minmax"]},
            runtime={"kind": "tensorrt", "compute_capability": CAPABILITY},
        )
    )
    killed = []

    def observe(stage, _done, _total, note):
        if stage == "build" and note.startswith("fp16: ") and not killed:
            (child,) = psutil.Process().children()
            child.kill()
            killed.append(child.pid)

    chain = runs.chain(config, "run", observe, threading.Event())
    found = {c.id: c for c in chain.run().candidates}
    assert killed
    assert "build: killed by SIGKILL" in found["fp16"].failure
    assert "lower runtime.workspace_mb" in found["fp16"].failure
    assert found["fp16"].engine is None
    for name in ("fp32", "int8-minmax"):
        assert found[name].engine is not None
        assert "cross-built" in found[name].failure
    assert psutil.Process().children() == []
