"""The machine: clock, board, conditions, child processes and the service manager."""
