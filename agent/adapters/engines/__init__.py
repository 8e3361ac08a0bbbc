"""EngineBuilder and EngineRunner: TensorRT and ONNX Runtime."""
