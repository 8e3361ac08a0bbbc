"""Receives commands: checks the signature, decodes, and finds duplicates and refusals.

The order matters. A command without a signature (where one is required) is refused before it is
stored, so that it can't take the id of a genuine command that is still on its way. Its sender may
be anyone, so the answer does not show which keys there are, and a flood is answered for a while
only: each answer takes a place in the durable outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.choice.limits import Bounds, loosened
from agent.core.control.command import (
    BODY_LIMIT_BYTES,
    Command,
    CommandId,
    Receipt,
    Rejection,
    Stage,
    judge,
)
from agent.core.control.journal import Answered, Arrival
from agent.core.control.link import CommandArrived
from agent.core.control.requests import Optimize
from agent.core.control.token_bucket import TokenBucket
from agent.core.errors import CommandError
from agent.daemon.messages import Messages
from agent.ports import Clock, Journal, Signatures
from agent.wire.commands import decode_command, digest, is_token
from agent.wire.topics import Topics

_UNTRUSTED = "not signed by a key that this device trusts"


def _answers() -> TokenBucket:
    return TokenBucket(burst=1000, per_s=5.0)


@dataclass
class Inbox:
    """Judges what arrives and answers what is refused.

    Attributes:
        topics: The device's topics.
        journal: Remembers commands.
        messages: Publishes the answers.
        signatures: The trusted keys.
        require_signature: Whether unsigned commands are refused.
        max_exp_s: How long a signed command may be valid at most.
        clock: For expiry.
        clock_ok: Returns whether the wall clock is synchronized.
        note: Counts and announces what is not answered, as `Notices.note`.
        limits: The limits in effect, the fidelity floor among them, that no command may loosen;
            none where it may.
    """

    topics: Topics
    journal: Journal
    messages: Messages
    signatures: Signatures
    require_signature: bool
    max_exp_s: float
    clock: Clock
    clock_ok: Callable[[], bool]
    note: Callable[[str, Mapping[str, object]], None]
    limits: Bounds = field(default_factory=dict)
    _strangers: TokenBucket = field(default_factory=_answers)
    _signers: TokenBucket = field(default_factory=_answers)

    def admit(self, arrived: CommandArrived) -> Command | Rejection | None:
        """Return the command to be run, stored as RECEIVED; or why there is none.

        A refusal is already answered; None means that the command came before (its last answer
        is published again), that it is one of too many to be answered, or that the topic names no
        command. Acknowledge the message afterwards in any case: everything that must survive is
        stored when this returns.

        Raises:
            StoreError: if it can't be stored; then the message must not be acknowledged.
        """
        command_id = self.topics.command_id(arrived.topic)
        if command_id is None:
            return None
        claims = self._claims(arrived.body)
        if isinstance(claims, Rejection):
            return self._refuse(command_id, claims, signed=False)
        signed = is_token(arrived.body)
        found = decode_command(claims, command_id, sha256=digest(arrived.body), signed=signed)
        if isinstance(found, Rejection):
            return self._refuse(command_id, found, signed=signed)
        with self.journal.atomic():
            return self._store(found, arrived.retain)

    def _store(self, command: Command, retained: bool) -> Command | Rejection | None:
        known = self.journal.entry(command.id)
        if known is None:
            receipt = Receipt(
                device=self.topics.device,
                now_s=datetime.fromisoformat(self.clock.utc().replace("Z", "+00:00")).timestamp(),
                clock_ok=self.clock_ok(),
                retained=retained,
                require_signature=self.require_signature,
                max_exp_s=self.max_exp_s,
            )
            refused = judge(command, receipt) or self._too_loose(command)
            if refused is not None:
                return self._refuse(command.id, refused, signed=command.signed)
        arrival = self.journal.receive(command)
        if arrival is Arrival.CONFLICT:
            detail = "this id was used for another command"
            return self._refuse(command.id, Rejection("conflict", detail), signed=command.signed)
        if arrival is Arrival.DUPLICATE:
            # One without an answer is on its way in this process, or the start asked it again.
            seen = known is not None and known.stage is not Stage.RECEIVED
            if seen and self._may_answer(signed=command.signed):
                self.messages.repeat(command.id)
            return None
        return command

    def _claims(self, body: bytes) -> bytes | Rejection:
        """Return the JSON of a command: of a signed one the claims, once the signature is verified."""
        if len(body) > BODY_LIMIT_BYTES:
            return Rejection("too_large", f"{len(body)} bytes, {BODY_LIMIT_BYTES} is the limit")
        if not is_token(body):
            if self.require_signature:
                return Rejection("bad_signature", "this device takes signed commands only")
            return body
        try:
            return self.signatures.verify(body)
        except CommandError as error:
            return Rejection(error.code, _UNTRUSTED, cause=error.message)

    def _too_loose(self, command: Command) -> Rejection | None:
        asked = command.request.limits if isinstance(command.request, Optimize) else {}
        for key in loosened(self.limits, asked):
            return Rejection(
                "policy",
                f"limits.{key} = {asked[key]:g} is weaker than the {self.limits[key]:g} in effect,"
                " which needs commands.may_loosen_limits = true",
            )
        return None

    def _refuse(self, command_id: CommandId, why: Rejection, *, signed: bool) -> Rejection | None:
        if not self._may_answer(signed=signed):
            return None
        self.messages.refuse(
            command_id, Answered(stage=Stage.REJECTED, code=why.code, detail=why.detail)
        )
        return why

    def _may_answer(self, *, signed: bool) -> bool:
        """Return whether there is still an answer for a command that is not run; count if not.

        Signed commands have a share of their own, which others can't use up. It is limited as well,
        because a signed command that was read on its way can be sent again and again.
        """
        answers = self._signers if signed else self._strangers
        if answers.take(self.clock.monotonic_ns()):
            return True
        self.note("refusal_unanswered", {"signed": signed})
        return False
