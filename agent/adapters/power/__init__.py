"""PowerMeter and PowerModes: one module for each sensor or service."""
