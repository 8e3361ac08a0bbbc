"""Camera: one module for each source of frames."""
