"""The operator's side: what devices send, stored and shown."""
