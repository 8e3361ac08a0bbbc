"""Histograms of activations, the scales found in them, and which layers stay in float."""
