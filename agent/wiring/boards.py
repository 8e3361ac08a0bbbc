"""The board under quantd: what the machine itself reports, and its board file."""

from __future__ import annotations

from agent.config import Config
from agent.config.boards import Board, board
from agent.ports import PowerModes


def board_of(config: Config) -> Board | None:
    """Return the board file of `device.board`, None for an unknown board."""
    return board(config.device.board)


def environment(config: Config) -> dict[str, str | int | float | None]:
    """Return the board's part of a report's environment.

    A known board has its file's name; another Jetson has the reason why it is not known.
    """
    from agent.adapters.host import board as here

    found = here.read_board()
    modes = power_modes(config).modes()
    if modes:
        now = [name for name, reason in modes.items() if not reason]
        later = [name for name, reason in modes.items() if reason]
        found |= {"power_modes": ", ".join(now), "power_modes_after_reboot": ", ".join(later)}
    if known := board_of(config):
        found |= {"board": known.name, "board_file": known.id, "dla_cores": known.dla_cores}
    elif reason := here.unknown_board():
        found["board_reason"] = reason
    return found


def power_modes(config: Config) -> PowerModes:
    """Return the power modes of this machine; there are none without nvpmodel."""
    from agent.adapters.power.nvpmodel import NvpModes

    return NvpModes(config.storage.dir)


def excluded(config: Config, rail: str) -> str:
    """Return what the power of a rail leaves out, in words; empty for an unknown board."""
    known = board_of(config)
    if known is None:
        return ""
    total = known.power.total_rail
    if total and rail != total:
        return f"{total}, which carries everything on this board, could not be read"
    return known.power.not_in_it
