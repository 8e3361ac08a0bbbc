"""The store of the operator's side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agent.core.fleet.devices import (
        Counts,
        Device,
        DeviceDetail,
        DeviceQuery,
        EventRow,
        Hole,
        Page,
        QuarantineRow,
        ReportRow,
        ResultRow,
        Sample,
        Worker,
    )
    from agent.core.fleet.messages import Quarantined, Received


class FleetStore(Protocol):
    """Messages of devices, stored once each; any thread may use it.

    Every method may raise StoreError; "busy" and "disk_full" pass by waiting.
    """

    def write(self, messages: Sequence[Received], quarantined: Sequence[Quarantined]) -> int:
        """Store a batch in one transaction; return how many messages were new.

        Raises:
            StoreError: "refused" if the database can't represent one of them, so that the batch
                must be halved; none of it is stored then.
        """

    def tidy(self, now_ms: int) -> None:
        """Reduce old telemetry to hours, remove what is kept no longer; call it each hour."""

    def close(self) -> None:
        """Close the database."""

    # What the console shows ----------------------------------------------------------------

    def counts(self, now_ms: int) -> Counts:
        """Count the devices."""

    def devices(self, query: DeviceQuery, now_ms: int) -> Page[Device]:
        """Return some devices."""

    def named(self, names: Sequence[str], now_ms: int) -> Sequence[Device]:
        """Return the devices with these names, those that are known."""

    def changed(self, since_ms: int) -> Sequence[str]:
        """Return the names of devices heard at or after a moment of this machine's clock."""

    def device(self, name: str, now_ms: int) -> DeviceDetail | None:
        """Return everything of a device; None if it was never heard."""

    def labels(self) -> Sequence[tuple[str, str, int]]:
        """Return each key and value of a label with its number of devices."""

    def telemetry(self, device: str, from_ms: int, to_ms: int) -> Sequence[Sample]:
        """Return figures of a device, oldest first: hours as far as only these are kept."""

    def events(
        self, device: str = "", *, severity: str = "", before: str = "", limit: int = 50
    ) -> Sequence[EventRow]:
        """Return events, newest first; of one device, of one severity, before an id."""

    def results(
        self, device: str = "", *, command: str = "", before: str = "", limit: int = 50
    ) -> Sequence[ResultRow]:
        """Return stages of commands, newest first; of one device, of one command, before an id."""

    def answers(self, command: str, limit: int = 50, offset: int = 0) -> Page[ResultRow]:
        """Return the last stage of a command on each device that answered."""

    def stages(self, prefix: str) -> dict[str, int]:
        """Count the commands with a prefix of their ids by the last stage on each device."""

    def reports(
        self, device: str = "", *, model: str = "", before: str = "", limit: int = 50
    ) -> Sequence[ReportRow]:
        """Return reports, newest first; of one device, on one model, before an id."""

    def newest_reports(self, model: str) -> Sequence[ReportRow]:
        """Return the newest report on a model of each device, by the device's name."""

    def report(self, device: str, report: str) -> bytes | None:
        """Return a report.json; None if it isn't there."""

    def models(self) -> dict[str, int]:
        """Return the models that there are reports on, with their numbers of devices."""

    def quarantine(self, device: str = "", limit: int = 50) -> Sequence[QuarantineRow]:
        """Return what could not be stored, newest first."""

    def holes(self, before_ms: int, limit: int = 50) -> Sequence[Hole]:
        """Return the numbers that were noticed to be missing before a moment."""

    # The workers ---------------------------------------------------------------------------

    def report_worker(self, worker: Worker) -> None:
        """Store what a worker reports of itself, all but whether it is retired."""

    def retire_worker(self, name: str, *, retired: bool) -> None:
        """Store that a worker is needed no longer, so that it ends; or that it is again."""

    def workers(self) -> Sequence[Worker]:
        """Return all workers that ever reported, by name."""
