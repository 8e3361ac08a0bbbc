"""A stand-in for NVIDIA's nvpmodel on PATH: modes of a file, the present one in another."""

from __future__ import annotations

from pathlib import Path

CONF = """
# as the files of Jetson Linux are
< PARAM TYPE=FILE NAME=TPC_POWER_GATING >
TPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
TPC_POWER_GATING TPC_PG_MASK 240
< POWER_MODEL ID=1 NAME=25W >
TPC_POWER_GATING TPC_PG_MASK 240
< POWER_MODEL ID=3 NAME=7W >
TPC_POWER_GATING TPC_PG_MASK 252

< PM_CONFIG DEFAULT=1 >
"""
_PROGRAM = """#!/bin/sh
cd {folder}
echo "$*" >>calls
case $1 in
  -q) echo "NV Power Mode: $(cat now)"; sed -n "s/.*ID=\\([0-9]*\\) NAME=$(cat now) >.*/\\1/p" etc/nvpmodel.conf ;;
  -p) sed -n 's/< *POWER_MODEL \\(ID=.*\\) >/NVPM VERB: POWER_MODEL: \\1/p' etc/nvpmodel.conf
      echo "NVPM VERB: PM_CONFIG: DEFAULT=15W(0)" ;;
  -m) if [ -e refuse ]; then echo "NVPM ERROR: optMask is 1, no request for power mode"; exit 1; fi
      if read -r answer; then echo "a question must not be answered"; exit 1; fi
      sed -n "s/.*ID=$2 NAME=\\(.*\\) >.*/\\1/p" etc/nvpmodel.conf >now ;;
esac
"""


def install(folder: Path, mode: str = "15W") -> Path:
    """Write nvpmodel.conf and the program under folder; return the folder for PATH."""
    (folder / "etc").mkdir(parents=True, exist_ok=True)
    (folder / "etc/nvpmodel.conf").write_text(CONF)
    (folder / "now").write_text(mode + "\n")
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin/nvpmodel"
    program.write_text(_PROGRAM.format(folder=folder))
    program.chmod(0o755)
    return program.parent
