"""What the specs of all kinds of jobs have in common."""

from __future__ import annotations

from typing import Generic, TypeVar, get_args

import msgspec

from agent.config import Config
from agent.core.records import Digest
from agent.ports.jobs import JobSpec

ResultT = TypeVar("ResultT")


class Spec(
    JobSpec[ResultT],
    msgspec.Struct,
    Generic[ResultT],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
):
    """What every job is given: the effective configuration."""

    config: Config

    @property
    def kind(self) -> str:
        """Return the name of the kind, for messages and timings."""
        return str(self.__struct_config__.tag)

    @classmethod
    def result(cls) -> type[ResultT]:
        """Return the class that the kind names as its base's parameter."""
        (base,) = vars(cls)["__orig_bases__"]
        found: type[ResultT] = get_args(base)[0]
        return found


class RecordSpec(Spec[ResultT], Generic[ResultT], frozen=True, kw_only=True):
    """A job that makes a record for the store.

    Attributes:
        digest: Identity of the record.
        work: Folder for its files; the store sets it.
    """

    digest: Digest
    work: str = ""
