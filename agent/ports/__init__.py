"""The ports: interfaces of the stages and the daemon to the outside.

Adapters implement these; nothing here imports a technology. Ports with open resources are context
managers, and all failures are errors of `core.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.ports.capture import Camera, FrameStore
from agent.ports.daemon import Link, Notifier, Signatures
from agent.ports.device import Clock, PowerMeter, PowerModes
from agent.ports.engines import EngineBuilder, EngineProfiler, EngineRunner
from agent.ports.graphs import Conditioner, Intake, QuantizationTrial, Quantizer
from agent.ports.jobs import Jobs
from agent.ports.journal import Journal
from agent.ports.storage import Releases, Store
from agent.ports.types import Progress, RecordT

if TYPE_CHECKING:
    from agent.ports.types import Tensors
