"""What an application imports to use the active release; also importable as `quantd_client`.

It needs numpy, OpenCV and the runtime of the release, and of quantd only modules of the core: a
frame is prepared and outputs are decoded by the code that judged the engine.

    from quantd_client import Release

    with Release("/var/lib/quantd/current") as release:
        while True:
            found = release(frame)  # a picture as OpenCV gives it
            release.reload_if_changed()
"""

from agent.client.errors import ReleaseError
from agent.client.release import Release
from agent.core.errors import QuantdError
from agent.core.fidelity.results import Classes, ClassMap, Masks, Objects

__all__ = ["ClassMap", "Classes", "Masks", "Objects", "QuantdError", "Release", "ReleaseError"]
