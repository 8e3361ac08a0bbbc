"""The table of the zoo, and what each architecture is configured with."""

from __future__ import annotations

import pytest

from agent import config as configuration
from tests.zoo.architectures import ARCHITECTURES, TARGETS
from tests.zoo.table import last_error, render

_FILE = "resnet18.TorchScript.onnx"
_MADE = {"sqnr_db": 27.04, "agreement": 0.755, "judged_frames": 8, "int8_share": 1.0}
_ROW = {
    "nodes": 49,
    "intake_difference": 6e-7,
    "process_cpu_s": 61.2,
    "wall_s": 80.0,
    "candidates": {
        "fp32": {"sqnr_db": None, "agreement": 1.0, "judged_frames": 8, "int8_share": 0.0},
        "fp16": {
            "sqnr_db": 62.3,
            "agreement": None,
            "agreement_reason": "nothing was seen",
            "judged_frames": 0,
            "int8_share": 0.0,
        },
        "U8S8": _MADE,
        "S8S8": {"failed": "node Conv_3: no scale; leave it in float"},
    },
}


def test_every_architecture_is_named_once_and_has_a_valid_configuration(tmp_path):
    names = [one.name for one in ARCHITECTURES]
    assert len(set(names)) == len(names) >= 25
    empty = tmp_path / "quantd.toml"
    empty.write_text("")
    for one in ARCHITECTURES:
        settings = {f"model.{key}": value for key, value in one.model.items()}
        required = {"camera.uri": "synthetic://", "model.path": "model.onnx"}
        found = configuration.load(empty, overrides={**required, **settings})
        assert found.model.task.kind == one.model.get("task.kind", "generic")


def test_the_table_has_figures_and_below_them_the_reason_of_each_that_is_missing():
    lines = render({_FILE: _ROW}).splitlines()
    assert (
        lines[2]
        == "| resnet18 | TorchScript | 49 | 6e-07 | 27.0 dB, 0.76 | refused | 100 % | 62.3 dB | 61, 80 |"
    )
    assert lines[4] == "1 exports, 1 CPU minutes."
    assert lines[6:] == [
        "- resnet18, TorchScript: fp16: agreement: nothing was seen",
        "- resnet18, TorchScript: S8S8: node Conv_3: no scale; leave it in float",
    ]


@pytest.mark.parametrize(
    ("row", "cell"),
    [({"not_exported": "no such operator"}, "not exported"), ({"failed": "no picture"}, "refused")],
)
def test_a_graph_without_figures_has_its_reason_below(row, cell):
    lines = render({_FILE: row}).splitlines()
    assert cell in lines[2]
    assert lines[2].count("|") == lines[0].count("|")
    assert lines[6:] == [f"- resnet18, TorchScript: {next(iter(row.values()))}"]


@pytest.mark.parametrize(
    ("log", "error"),
    [
        ("tracing ...\nValueError: no such operator\n", "ValueError: no such operator"),
        (
            "Error 1\n## Exception summary\n\n<class 'A'>: no such operator\n⬆️\n"
            "<class 'B'>: not translated\n\n(Refer to the trace above.)\n",
            "<class 'A'>: no such operator",
        ),
        ("", "no output"),
    ],
)
def test_the_reason_of_a_failed_export_is_its_error(log, error):
    assert last_error(log) == error


def test_files_are_named_after_architecture_and_exporter():
    architecture, exporter = TARGETS[_FILE]
    assert (architecture.name, exporter) == ("resnet18", "TorchScript")
