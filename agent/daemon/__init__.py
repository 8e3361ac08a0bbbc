"""The small resident process: a mailbox loop and one worker."""
