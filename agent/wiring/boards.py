"""What is known of the board under quantd: what it tells itself, and its board file."""

from __future__ import annotations

from agent.config import Config
from agent.config.boards import Board, board
from agent.ports import PowerModes


def board_of(config: Config) -> Board | None:
    """Return the board file of `device.board`, None where the board is not known."""
    return board(config.device.board)


def facts(config: Config) -> dict[str, str | int | float | None]:
    """Return the facts of the board for reports; a known board is called by its own name."""
    from agent.adapters.host.board import read_board

    found = read_board().facts()
    known = board_of(config)
    settable = power_modes(config).modes()
    if settable:
        now = [name for name, reason in settable.items() if not reason]
        later = [name for name, reason in settable.items() if reason]
        found |= {"power_modes": ", ".join(now), "power_modes_after_reboot": ", ".join(later)}
    return found | (
        {"board": known.name, "board_file": known.id, "dla_cores": known.dla_cores} if known else {}
    )


def power_modes(config: Config) -> PowerModes:
    """Return the power modes of this machine; a machine without nvpmodel has none."""
    from agent.adapters.power.nvpmodel import NvpModes

    return NvpModes(config.storage.dir)


def excluded(config: Config, rail: str) -> str:
    """Return what the power of a rail leaves out, in words; empty where nobody knows."""
    known = board_of(config)
    if known is None:
        return ""
    total = known.power.total_rail
    if total and rail != total:
        return f"{total}, which carries everything on this board, could not be read"
    return known.power.not_in_it
