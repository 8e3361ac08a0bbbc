"""Applications that use a release; each is a program to start from."""
