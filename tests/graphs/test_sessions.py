"""Memory of sessions: what is kept of their outputs, and how long."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import pytest

from agent.graphs import moments, replay
from agent.graphs.edits import sort_topologically
from agent.graphs.qdq import load_inferred, quantized_tensors, with_qdq
from agent.graphs.sessions import copied, session
from agent.graphs.weights import roundable_layers
from tests.support import quant_graphs
from tests.support.onnx_runs import random_inputs


class Watched:
    """A session that records how many outputs of earlier runs, of any session, are in use."""

    outputs: list[weakref.ref]
    in_use: list[int]

    def __init__(self, opened):
        self._opened = opened

    @classmethod
    def count(cls):
        return sum(output() is not None for output in cls.outputs)

    def run(self, names, feeds):
        self.in_use.append(self.count())
        found = self._opened.run(names, feeds)
        self.outputs.extend(map(weakref.ref, found))
        return found


@pytest.fixture
def watched(monkeypatch):
    Watched.outputs, Watched.in_use = [], []
    for module in (moments, replay):
        monkeypatch.setattr(module, "session", lambda *a, **k: Watched(session(*a, **k)))
    return Watched


def test_copies_do_not_share_the_memory_of_the_session(tmp_path):
    model = load_inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    names = [value.name for value in model.graph.output]
    seen = dict(zip(names, session(model, 1).run(names, random_inputs(model, 0)), strict=True))
    kept = copied(seen)
    for name, value in seen.items():
        assert not value.flags.owndata  # else a copy would be in vain
        assert kept[name].flags.owndata
        np.testing.assert_array_equal(kept[name], value)


def test_a_replay_keeps_no_memory_of_its_sessions(tmp_path, watched):
    clean = load_inferred(quant_graphs.inverted(tmp_path / "m.onnx"))
    ranges = dict.fromkeys(quantized_tensors(clean, "S8S8"), (-6.0, 6.0))
    model = with_qdq(clean, "S8S8", ranges)
    sort_topologically(model.graph)
    tensors = [n.input[0] for n in model.graph.node if n.op_type == "Conv"]
    frames = [random_inputs(model, seed) for seed in range(3)]
    replayed = replay.Replay(model, frames, 1, 10**9)
    for index, tensor in enumerate(tensors):
        deque(replayed.values(tensor, tensors[index + 1 :], {}), maxlen=0)
    assert watched.in_use == [0] * len(watched.in_use)
    assert watched.outputs
    assert watched.count() == 0


def test_moments_need_the_outputs_of_one_frame_at_a_time(tmp_path, watched):
    model = load_inferred(quant_graphs.detector(tmp_path / "m.onnx"))
    frames = [random_inputs(model, seed) for seed in range(3)]
    assert list(moments.moments(model, roundable_layers(model), [frames], 1))
    assert watched.in_use == [0] * len(frames)
