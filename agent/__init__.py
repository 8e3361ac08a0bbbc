"""quantd: find, prove and activate the best engine for a model on the device that runs it."""

__version__ = "0.1.0"
