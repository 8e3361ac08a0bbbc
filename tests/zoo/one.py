"""quantd's own stages on one graph, in quantd's environment; the jobs run in this process.

    python -m tests.zoo.one GRAPH.onnx PICTURES FOLDER

prints one JSON object, which `table` reads. What quantd refuses is in it as the words that a user
gets; an error that is not quantd's own is marked as "unexplained".
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from agent import config as configuration
from agent.adapters.host.clock import SystemClock
from agent.config import Config
from agent.core.errors import JobError, QuantdError
from agent.core.records import (
    CalibrationSet,
    Candidate,
    Recipe,
    Rejected,
    digest_of,
)
from agent.jobs import kinds
from agent.ports import Progress, RecordT
from agent.ports.jobs import JobSpec
from agent.run.chain import Chain
from agent.run.judging import Judging
from agent.wiring import storage
from tests.zoo.architectures import TARGETS

_FRAMES, _HOLDOUT = 8, 8
_CALIBRATOR = "mse"
SCHEMES = ("U8S8", "S8S8")


class Unexplained(JobError):
    """A fault of quantd: an error that is none of its own."""


class InProcess:
    """Implements `ports.Jobs` in this process: the start of one for each job would take longest."""

    def run(
        self, spec: JobSpec[RecordT], *, progress: Progress, cancelled: threading.Event
    ) -> RecordT:
        del cancelled
        try:
            return kinds.run(spec, progress)
        except QuantdError:
            raise
        except Exception as error:
            traceback.print_exc()
            where = traceback.extract_tb(error.__traceback__)[-1]
            seen = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            raise Unexplained(
                f"unexplained: {spec.kind}: {' '.join(seen.split())[:300]}"
            ) from error


def configured(
    graph: Path, model: Mapping[str, Any], side: int, folder: Path, pictures: Path
) -> Config:
    """Return the configuration of a user with this model, on one thread of the CPU."""
    empty = folder / "quantd.toml"
    empty.write_text("")
    overrides = {
        "camera.uri": f"images://{pictures.resolve()}",
        "model.path": str(graph.resolve()),
        "model.input.width": side,
        "model.input.height": side,
        "runtime.kind": "onnxruntime",
        "runtime.threads": 1,
        "storage.dir": str(folder / "state"),
        **{f"model.{key}": value for key, value in model.items()},
    }
    return configuration.load(empty, overrides=overrides)


def calibration_set(chain: Chain, pictures: Path) -> CalibrationSet:
    """Store pictures as the captured frames."""
    files = sorted(pictures.iterdir())
    names = [file.name for file in files]
    digest = digest_of("zoo", *names)
    with chain.store.stage(digest) as work:
        shutil.copytree(pictures, Path(work, "frames"))
        taken = CalibrationSet(
            digest=digest,
            source="images",
            synthetic=False,
            width=640,
            height=272,
            frames=tuple(names[::2][:_FRAMES]),
            holdout=tuple(names[1::2][:_HOLDOUT]),
            seen=len(files),
            lost=0,
            rejected=Rejected(),
        )
        chain.store.keep(digest, work, taken)
    return taken


def recipes() -> Iterator[tuple[str, Recipe]]:
    yield "fp32", Recipe(precision="fp32")
    yield "fp16", Recipe(precision="fp16")
    for scheme in SCHEMES:
        yield scheme, Recipe(precision="int8", calibrator=_CALIBRATOR, scheme=scheme)


def judged(chain: Chain, found: Sequence[Candidate], *parents: Any) -> dict[str, Any]:
    """Make and evaluate the candidates; return what the table shows of each."""
    platform, model, calibration = parents
    made = chain.built(found, platform, model, calibration)
    judging = Judging(config=chain.config, run_id=chain.run_id, artifacts=chain._artifacts)
    return {c.id: _shown(c) for c in judging.evaluated(made, model, calibration)}


def _shown(candidate: Candidate) -> dict[str, Any]:
    if candidate.failure or candidate.evaluation is None:
        return {"failed": candidate.failure}
    fidelity, graph = candidate.evaluation.fidelity, candidate.quantized
    assert graph is not None
    return {
        "sqnr_db": fidelity.sqnr_db,
        "sqnr_reason": fidelity.sqnr_reason,
        "agreement": fidelity.agreement,
        "agreement_reason": fidelity.agreement_reason,
        "summary": fidelity.summary,
        "judged_frames": fidelity.judged_frames,
        "int8_share": round(graph.int8_macs_fraction, 4),
        "kept_float": len(graph.kept_float),
        "steps": list(graph.steps),
    }


@contextmanager
def stated(result: dict[str, Any], part: str) -> Iterator[None]:
    """Put an error into the result, as the words that a user gets."""
    begin = time.process_time()
    try:
        yield
    except QuantdError as error:
        result["failed"] = f"{error.message}; {error.hint}" if error.hint else error.message
        result["failed_at"] = part
        result["code"] = error.code
    finally:
        result.setdefault("cpu_s", {})[part] = round(time.process_time() - begin, 1)


def run(graph: Path, pictures: Path, folder: Path) -> dict[str, Any]:
    """Return the row of one graph."""
    architecture, _ = TARGETS[graph.name]
    config = configured(graph, architecture.model, architecture.side, folder, pictures)
    chain = Chain(
        config=config,
        run_id="zoo",
        store=storage.store(config),
        jobs=InProcess(),
        clock=SystemClock(),
        history=(),
        observe=lambda *_: None,
        cancelled=threading.Event(),
    )
    theirs = onnx.load(graph, load_external_data=False)
    result: dict[str, Any] = {
        "nodes": len(theirs.graph.node),
        "opset": max(one.version for one in theirs.opset_import if one.domain in {"", "ai.onnx"}),
        "mb": round(graph.stat().st_size / 1e6, 1),
    }
    with stated(result, "intake"):
        platform, clean = chain.platform(), chain.intake()
        calibration = calibration_set(chain, pictures)
        result |= {"macs": clean.macs, "changes": list(clean.changes)}
        parents = platform, chain.checked(clean, calibration), calibration
        check = parents[1].intake
        if check is not None:
            result |= {"intake_difference": check.relative, "intake_reason": check.reason}
    if "failed" not in result:
        with stated(result, "candidates"):
            found = [
                Candidate(
                    id=name, recipe=recipe, runtime=platform.runtime, batch=1, power_mode=None
                )
                for name, recipe in recipes()
            ]
            result["candidates"] = judged(chain, found, *parents)
            result["conditioning"] = list(chain._calibrating.conditioning)
    return result


def main(graph: str, pictures: str, folder: str) -> None:
    begin = time.monotonic()
    result = run(Path(graph), Path(pictures), Path(folder))
    result["wall_s"] = round(time.monotonic() - begin, 1)
    result["process_cpu_s"] = round(time.process_time(), 1)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
