"""Shared by the adapters of TensorRT and ONNX Runtime: devices, providers, errors."""
