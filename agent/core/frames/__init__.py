"""Camera frames: where they come from, which are kept, and how one becomes a tensor."""
