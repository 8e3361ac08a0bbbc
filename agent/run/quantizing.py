"""Graphs in every precision: by one calibrator, or the members of int8-mixed's front."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from agent import config as configuration
from agent.config import Config
from agent.core.choice.limits import AGREEMENT, SQNR
from agent.core.errors import ConfigError, QuantdError
from agent.core.records import (
    AS_GIVEN,
    FP32,
    MIXED,
    CalibrationSet,
    Candidate,
    CleanModel,
    Digest,
    LayerSpeeds,
    MixedFront,
    Platform,
    QuantizedModel,
    Recipe,
    digest_of,
)
from agent.core.search.candidates import candidate_id, failed, members
from agent.run.artifacts import Artifacts
from agent.run.building import building
from agent.run.calibration import Calibrating
from agent.wire.jobs import FindFront, QuantizeModel, TimeLayers

_LOG = logging.getLogger(__name__)
_COMPUTE = "multiply-accumulates"


@dataclass(frozen=True, slots=True)
class _Timed:
    """Times of the layers, if there are any, and what their weight is taken from, in words."""

    speeds: LayerSpeeds | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Quantizing:
    """Quantizes candidates; the failure of one leaves the others.

    Attributes:
        calibrating: Conditions the graph and collects its statistics.
    """

    config: Config
    artifacts: Artifacts
    calibrating: Calibrating
    _timed: dict[str, _Timed] = field(default_factory=dict)

    def quantized(
        self,
        found: Sequence[Candidate],
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> list[Candidate]:
        """Return candidates with their graphs, the members of a front instead of int8-mixed."""
        made: list[Candidate] = []

        def each(work: Callable[..., Sequence[Candidate]], one: Candidate) -> Sequence[Candidate]:
            try:
                return work(one, platform, model, calibration)
            except ConfigError:
                raise  # it concerns all candidates, and the user has to correct it
            except QuantdError as error:
                return [failed(one, error)]

        for candidate in self.artifacts.counted("quantize", found):
            for one in each(self._members, candidate):
                made += each(self._made, one)
        return made

    def _members(
        self,
        candidate: Candidate,
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> Sequence[Candidate]:
        """Return the candidates of the front if that is int8-mixed, else the candidate."""
        recipe = candidate.recipe
        if candidate.failure or recipe.precision != MIXED or recipe.member:
            return [candidate]
        front = self._front(recipe.scheme or "", platform, model, calibration)
        return members(candidate, len(front.members))

    def _made(
        self,
        candidate: Candidate,
        platform: Platform,
        model: CleanModel,
        calibration: CalibrationSet,
    ) -> Sequence[Candidate]:
        recipe = candidate.recipe
        if candidate.failure:
            return [candidate]
        if not (recipe.calibrator and recipe.scheme):
            graph = self._float(recipe, model, calibration)
        elif recipe.member:
            front = self._front(recipe.scheme, platform, model, calibration)
            graph = self._member(recipe, front, model, calibration)
        else:
            timed = self._times(recipe.scheme, platform, model, calibration)
            graph = self._int8(recipe, timed, model, calibration)
        return [replace(candidate, quantized=graph)]

    def _float(
        self, recipe: Recipe, model: CleanModel, calibration: CalibrationSet
    ) -> QuantizedModel:
        frames = None if recipe.precision in {FP32, AS_GIVEN} else calibration.digest
        digest = digest_of("convert-1", model.digest, frames, asdict(recipe))
        return self._graph(recipe, digest, model, calibration)

    def _int8(
        self, recipe: Recipe, timed: _Timed, model: CleanModel, calibration: CalibrationSet
    ) -> QuantizedModel:
        """Return the graph of a calibrator, with layers in float that are slower in INT8."""
        parents = self._parents(recipe.scheme or "", model, calibration)
        kept = timed.speeds.slower if timed.speeds else ()
        digest = digest_of("int8-1", parents[1], asdict(recipe), kept)
        source = timed.source if kept else ""
        return self._graph(
            recipe, digest, model, calibration, parents=parents, kept=kept, weighed_by=source
        )

    def _member(
        self, recipe: Recipe, front: MixedFront, model: CleanModel, calibration: CalibrationSet
    ) -> QuantizedModel:
        parents = self._parents(recipe.scheme or "", model, calibration)
        digest = digest_of("member-1", front.digest, recipe.member)
        return self._graph(recipe, digest, model, calibration, parents=parents, front=front.digest)

    def _graph(
        self,
        recipe: Recipe,
        digest: Digest,
        model: CleanModel,
        calibration: CalibrationSet,
        *,
        parents: tuple[Digest | None, Digest | None] = (None, None),
        kept: tuple[str, ...] = (),
        weighed_by: str = "",
        front: Digest | None = None,
    ) -> QuantizedModel:
        return self.artifacts.get(
            QuantizeModel(
                config=self.config,
                digest=digest,
                model=model.digest,
                calibration=calibration.digest,
                recipe=recipe,
                conditioned=parents[0],
                statistics=parents[1],
                front=front,
                kept=kept,
                weighed_by=weighed_by,
            )
        )

    def _front(
        self, scheme: str, platform: Platform, model: CleanModel, calibration: CalibrationSet
    ) -> MixedFront:
        timed = self._times(scheme, platform, model, calibration)
        conditioned, statistics = self._parents(scheme, model, calibration)
        task = configuration.dump(self.config)["model"]["task"]  # its metric decides
        bound = self.config.requirements.bound
        speeds = timed.speeds.digest if timed.speeds else None
        return self.artifacts.get(
            FindFront(
                config=self.config,
                digest=digest_of(
                    "front-2", statistics, speeds, task, bound(SQNR), bound(AGREEMENT)
                ),
                scheme=scheme,
                model=model.digest,
                calibration=calibration.digest,
                conditioned=conditioned,
                statistics=statistics,
                speeds=speeds,
                weighed_by=timed.source,
            )
        )

    def _times(
        self, scheme: str, platform: Platform, model: CleanModel, calibration: CalibrationSet
    ) -> _Timed:
        """Return the times of layers, from an engine with all of them in INT8 and one in float.

        Where no layer turns out slower, that is the engine of a candidate, made once.
        """
        if scheme not in self._timed:
            self._timed[scheme] = self._profiled(scheme, platform, model, calibration)
        return self._timed[scheme]

    def _profiled(
        self, scheme: str, platform: Platform, model: CleanModel, calibration: CalibrationSet
    ) -> _Timed:
        if self.config.runtime.compute_capability:
            return _Timed(None, f"{_COMPUTE}: an engine for another device can't be timed here")
        calibrators = self.config.search.calibrators
        recipe = Recipe(precision="int8", calibrator=calibrators[0], scheme=scheme)
        half = scheme.endswith("-FP16") and not platform.fp16_reason
        floating = Recipe(precision="fp16" if half else FP32)
        conditioned, statistics = self._parents(scheme, model, calibration)
        batch = min(self.config.search.batch)
        probe = Candidate(
            id=candidate_id(recipe, batch, None),
            recipe=recipe,
            runtime=platform.runtime,
            batch=batch,
        )
        try:
            engines = [
                self.artifacts.get(building(self.config, probe, graph, platform))
                for graph in (
                    self._float(floating, model, calibration),
                    self._int8(recipe, _Timed(None, ""), model, calibration),
                )
            ]
            if not all(one.runnable for one in engines):
                return _Timed(None, f"{_COMPUTE}: engines for another device can't be timed here")
            found = self.artifacts.get(
                TimeLayers(
                    config=self.config,
                    digest=digest_of(
                        "layer-speeds-1", *(one.digest for one in engines), statistics
                    ),
                    int8=engines[1],
                    floating=engines[0],
                    precision=floating.precision,
                    scheme=scheme,
                    model=model.digest,
                    calibration=calibration.digest,
                    conditioned=conditioned,
                    statistics=statistics,
                )
            )
        except QuantdError as error:
            reason = failed(probe, error).failure
            _LOG.warning("layers_not_timed %s", reason)
            return _Timed(None, f"{_COMPUTE}, since no layer was timed: {reason}")
        return _Timed(found, f"times on this device by {found.source}")

    def _parents(
        self, scheme: str, model: CleanModel, calibration: CalibrationSet
    ) -> tuple[Digest, Digest]:
        conditioned = self.calibrating.condition(model, calibration, scheme)
        return conditioned.digest, self.calibrating.statistics(
            conditioned, model, calibration
        ).digest
