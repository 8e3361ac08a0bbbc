"""Conclude a configuration from a model file, the files beside it and the options.

Each value has its origin; what no source states is named with the option that gives it.
"""

from __future__ import annotations
