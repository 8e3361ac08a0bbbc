from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.core.errors import StoreError
from agent.wiring.reported import read_report


@pytest.mark.parametrize(("mode", "words"), [(0o600, "damaged"), (0o000, "sudo -u quantd")])
def test_a_report_that_can_not_be_read_names_what_to_do(
    tmp_path: Path, mode: int, words: str
) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(b'{"model": {"na')
    file.chmod(mode)
    user = os.geteuid()
    try:
        if mode == 0 and user == 0:
            os.seteuid(65534)  # root reads everything
        with pytest.raises(StoreError) as caught:
            read_report(tmp_path)
    finally:
        os.seteuid(user)
    assert caught.value.code == "bad_report"
    assert words in caught.value.hint
