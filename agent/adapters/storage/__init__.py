"""Store, Releases, Journal and FrameStore: files and SQLite."""
