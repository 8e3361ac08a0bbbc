"""The best candidate within the limits."""
