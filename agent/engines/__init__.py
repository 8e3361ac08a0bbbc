"""What the adapters of TensorRT and of ONNX Runtime have in common: devices, providers, errors."""
