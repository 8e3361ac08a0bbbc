"""Receives commands: checks the signature, decodes, and finds duplicates and refusals.

The order matters. A command without a signature (where one is required) is refused before it is
stored, so that it can't take the id of a genuine command that is still on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

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
from agent.core.errors import CommandError
from agent.daemon.messages import Messages
from agent.ports import Clock, Journal, Signatures
from agent.wire.commands import decode_command, digest, is_token
from agent.wire.topics import Topics


@dataclass
class Inbox:
    """Judges what arrives and answers what is refused.

    Attributes:
        topics: The device's topics.
        journal: Remembers commands.
        messages: Publishes the answers.
        signatures: The trusted keys.
        require_signature: Whether unsigned commands are refused.
        clock: For expiry.
        clock_ok: Returns whether the wall clock is synchronized.
    """

    topics: Topics
    journal: Journal
    messages: Messages
    signatures: Signatures
    require_signature: bool
    clock: Clock
    clock_ok: Callable[[], bool]

    def admit(self, arrived: CommandArrived) -> Command | Rejection | None:
        """Return the command to be run, stored as RECEIVED; or why there is none.

        A refusal is already answered; None means that the command came before (its last answer
        is published again) or that the topic names no command. Acknowledge the message afterwards
        in any case: everything that must survive is stored when this returns.

        Raises:
            StoreError: if it can't be stored; then the message must not be acknowledged.
        """
        command_id = self.topics.command_id(arrived.topic)
        if command_id is None:
            return None
        found = self._read(arrived, command_id)
        if isinstance(found, Rejection):
            return self._refuse(command_id, found)
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
            )
            refused = judge(command, receipt)
            if refused is not None:
                return self._refuse(command.id, refused)
        arrival = self.journal.receive(command)
        if arrival is Arrival.CONFLICT:
            detail = "this id was used for another command"
            return self._refuse(command.id, Rejection("conflict", detail))
        if arrival is Arrival.DUPLICATE:
            # One without an answer is on its way in this process, or the start asked it again.
            if known is not None and known.stage is not Stage.RECEIVED:
                self.messages.repeat(command.id)
            return None
        return command

    def _read(self, arrived: CommandArrived, command_id: CommandId) -> Command | Rejection:
        size = len(arrived.body)
        if size > BODY_LIMIT_BYTES:
            return Rejection("too_large", f"{size} bytes, {BODY_LIMIT_BYTES} is the limit")
        sha256 = digest(arrived.body)
        if not is_token(arrived.body):
            if self.require_signature:
                return Rejection("bad_signature", "this device takes signed commands only")
            return decode_command(arrived.body, command_id, sha256=sha256, signed=False)
        try:
            claims = self.signatures.verify(arrived.body)
        except CommandError as error:
            return Rejection(error.code, error.message)
        return decode_command(claims, command_id, sha256=sha256, signed=True)

    def _refuse(self, command_id: CommandId, why: Rejection) -> Rejection:
        self.messages.refuse(
            command_id, Answered(stage=Stage.REJECTED, code=why.code, detail=why.detail)
        )
        return why
