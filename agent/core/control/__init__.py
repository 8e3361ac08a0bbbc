"""Commands, events, the daemon's step function, the journal and the link to the broker."""
