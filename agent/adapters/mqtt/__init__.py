"""Link and Signatures: the broker, and signed commands."""
