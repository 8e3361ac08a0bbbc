"""The ports Intake, Conditioner, Quantizer and QuantizationTrial on ONNX graphs."""
