"""What people see in a terminal: bars, tables, the answer. All on stderr; stdout is for results.

rich is loaded where something is shown: the daemon shares the command line and shows nothing.
"""

from __future__ import annotations

from agent.terminal.answer import figures, next_steps, summary
from agent.terminal.bars import ProgressBars
from agent.terminal.candidates import candidates_table
from agent.terminal.console import show, table
from agent.terminal.followed import FollowedCommands, outcome
