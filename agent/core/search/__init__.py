"""The candidates of a run, and the order in which they are built."""
