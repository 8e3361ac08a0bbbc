"""`agent.client` under a name that no other package has."""

from agent.client import Classes, ClassMap, Masks, Objects, QuantdError, Release, ReleaseError

__all__ = ["ClassMap", "Classes", "Masks", "Objects", "QuantdError", "Release", "ReleaseError"]
