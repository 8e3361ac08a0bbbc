"""quantd as it is, but for a shorter patience with a broker that is away.

python -m tests.support.quick_daemon run -c quantd.toml
"""

from __future__ import annotations

import functools
import sys

import agent.wiring.daemon
from agent.adapters.mqtt.link import MqttLink
from agent.cli import main
from tests.support.mqtt_parties import QUICK

if __name__ == "__main__":
    agent.wiring.daemon.MqttLink = functools.partial(MqttLink, patience=QUICK)
    sys.exit(main())
