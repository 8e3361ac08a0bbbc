"""Which candidates there are, and which of them are built first."""
