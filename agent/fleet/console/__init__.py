"""The web console of a fleet: pages made by the server, for operators and viewers."""
