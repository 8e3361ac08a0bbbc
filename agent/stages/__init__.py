"""The arrows of the record chain: one file each, doing I/O only through ports."""
