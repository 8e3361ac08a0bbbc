"""The composition root: from the configuration to adapters, and stages called with them.

The only importer of adapters, and lazily: what a configuration doesn't name is never loaded.
"""
