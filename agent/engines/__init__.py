"""What TensorRT and TensorRT-RTX have in common, for the adapters that use either."""
