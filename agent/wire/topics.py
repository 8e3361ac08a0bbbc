"""Where messages go: `<root>/v1/<device>/...`."""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.control.command import CommandId, is_command_id


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device.

    Args:
        root: First level, from the configuration.
        device: The device's id, which is also its client id.
    """

    root: str
    device: str

    @property
    def state(self) -> str:
        """Return the topic of birth, last will and farewell (retained)."""
        return self._of("state")

    @property
    def meta(self) -> str:
        """Return the topic of the inventory (retained)."""
        return self._of("meta")

    @property
    def releases(self) -> str:
        """Return the topic of the releases on the device (retained)."""
        return self._of("releases")

    @property
    def telemetry(self) -> str:
        """Return the topic of regular figures."""
        return self._of("telemetry")

    @property
    def event(self) -> str:
        """Return the topic of lifecycle events and warnings."""
        return self._of("event")

    @property
    def command_filter(self) -> str:
        """Return the one filter that the device subscribes to."""
        return self._of("cmd/#")

    def report(self, model: str) -> str:
        """Return the topic of the last report on a model (retained)."""
        return self._of(f"report/{model}")

    def command(self, command_id: str) -> str:
        """Return the topic of a command to the device."""
        return self._of(f"cmd/{command_id}")

    def result(self, command_id: str) -> str:
        """Return the topic of the answers to a command."""
        return self._of(f"res/{command_id}")

    def command_id(self, topic: str) -> CommandId | None:
        """Return the id that an incoming topic names; None if it isn't one of a command."""
        start = self._of("cmd/")
        rest = topic[len(start) :]
        if not topic.startswith(start) or not is_command_id(rest):
            return None
        return CommandId(rest)

    def _of(self, rest: str) -> str:
        return f"{self.root}/v1/{self.device}/{rest}"
