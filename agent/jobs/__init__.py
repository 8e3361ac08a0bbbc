"""The child's side of a run: `python -m agent job SPEC` composes adapters and runs one stage."""
