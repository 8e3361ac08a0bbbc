"""The composition root of the daemon and of a run; adapters are loaded only where they are used.

Light: nothing here loads numpy or a runtime. What a job composes in its own process is in `jobs`.
"""
