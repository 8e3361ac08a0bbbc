"""The parent's side of a run: from the configuration to the report, each heavy stage a child process."""
