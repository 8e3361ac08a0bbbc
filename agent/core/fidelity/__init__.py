"""How near an engine's outputs are to those of FP32, and to labels where there are any."""
