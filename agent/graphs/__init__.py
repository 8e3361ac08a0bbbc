"""What is done to ONNX graphs: Q/DQ, statistics, and what both need to know of a graph."""
