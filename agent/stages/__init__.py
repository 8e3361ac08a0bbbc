"""The heavy arrows of the record chain, as a job runs them: one file each, I/O through ports."""
