"""Intake, Conditioner, Quantizer and Rehearsal, on ONNX graphs."""
