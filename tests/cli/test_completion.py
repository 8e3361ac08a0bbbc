"""Shells complete commands, options and file names from the script that quantd prints."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from agent.cli import main
from agent.verbs import VERBS

_ASK = """
source {script}
function=$(complete -p quantd | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=(quantd {words}); COMP_CWORD={at}
$function quantd "${{COMP_WORDS[{at}]}}" "${{COMP_WORDS[{at} - 1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_script_has_every_command_and_option(capsys, shell):
    assert main(["completion", shell]) == 0
    script, err = capsys.readouterr()
    assert err == ""
    for verb in VERBS:
        assert verb.name in script
    for flag in ("--camera", "--predictions", "--no-wait"):
        assert flag.lstrip("-") in script


def test_an_unknown_shell_is_wrong_usage(capsys):
    assert main(["completion", "fish"]) == 2
    assert "bash" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "answers"),
    [
        ("opti", ["optimize"]),
        ("optimize --cam", ["--camera"]),
        ("optimize --runtime tens", ["tensorrt"]),
        ("status -c qu", ["quantd.toml"]),
        ("optimize yo", ["yolo.onnx"]),
        ("report --state re", ["result"]),
        ("completion z", ["zsh"]),
    ],
)
def test_bash_completes(capsys, tmp_path, words, answers):
    main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "quantd.toml").touch()
    (tmp_path / "yolo.onnx").touch()
    (tmp_path / "result").mkdir()
    asked = _ASK.format(script=tmp_path / "script", words=words, at=len(words.split()))
    done = subprocess.run(
        ["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == answers, done.stderr
