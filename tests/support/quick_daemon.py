"""quantd as it is, but for a shorter patience with a broker that is away.

[QUANTD_TEST_DELAY_S=0.1] python -m tests.support.quick_daemon run -c quantd.toml
"""

from __future__ import annotations

import functools
import os
import sys

import agent.wiring.daemon
from agent.adapters.mqtt.link import MqttLink, Patience
from agent.cli import main

if __name__ == "__main__":
    delay_s = float(os.environ.get("QUANTD_TEST_DELAY_S", "0.1"))
    patience = Patience(
        first_delay_s=(delay_s, 2 * delay_s),
        longest_delay_s=(3 * delay_s, 4 * delay_s),
        keepalive_s=5,
        will_delay_s=0,
    )
    agent.wiring.daemon.MqttLink = functools.partial(MqttLink, patience=patience)
    sys.exit(main())
