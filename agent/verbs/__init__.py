"""The verbs of the command line; each calls one stage or the daemon through wiring."""

from __future__ import annotations

from agent.verbs.completion import COMPLETION
from agent.verbs.daily import DAILY
from agent.verbs.fleet import FLEET
from agent.verbs.looking import LOOKING
from agent.verbs.operator import OPERATOR
from agent.verbs.setup import SETUP
from agent.verbs.single import SINGLE

VERBS = (*SETUP, *DAILY, *SINGLE, *LOOKING, *OPERATOR, *FLEET, *COMPLETION)
