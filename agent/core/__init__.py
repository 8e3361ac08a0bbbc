"""The pure part: records and decisions, without I/O, clock or logging."""
