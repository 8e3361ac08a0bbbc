"""Conclude the configuration of a model from what was seen of it, and name what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from agent.core.fidelity.decoding import Decoding
from agent.core.setup import ultralytics
from agent.core.setup.facts import ModelFacts, TensorFacts
from agent.core.setup.image import (
    add_preprocessing,
    conventions,
    drop_fixed_size,
    drop_replaced_batch,
    image_of,
    missing_values,
    of_the_type,
    size_of,
)
from agent.core.setup.outputs import is_tensorflow, task_of
from agent.core.setup.preprocessing import classes_of
from agent.core.setup.settings import Found, Setting, Setup

_MOST_NAMES = 65_536
_MOST_CHARACTERS = 256
_WITH_CLASSES = ("classification", "segmentation", "detection")


def set_up(facts: ModelFacts, given: Mapping[str, Setting]) -> Setup:
    """Return what is known of a model and what is not.

    Args:
        facts: Of the model file and the files beside it.
        given: By key, what the user gave, which comes before everything else.

    Raises:
        ModelError: if the model does not take one image.
    """
    image = image_of(facts)
    found = Found(given)
    export = ultralytics.read_export(facts.metadata)
    notes: list[str] = []
    found.add(of_the_type(image))
    if export is not None:
        found.add(ultralytics.settings_of(export, facts))
    add_preprocessing(found, facts, image, notes)
    if is_tensorflow(facts.outputs):
        convention = "the convention of TensorFlow's detectors"
        found.add([Setting(key="model.input.color", value="RGB", origin=convention)])
    found.add(conventions(found, image))
    missing = tuple(missing_values(found, image))
    drop_fixed_size(found, image, given, notes)
    drop_replaced_batch(found, image, given, notes)
    size = size_of(found, image)
    _add_task(found, facts, export, size, notes)
    return Setup(settings=found.ordered(), missing=missing, notes=tuple(notes), size=size)


def _add_task(
    found: Found,
    facts: ModelFacts,
    export: ultralytics.Export | None,
    size: tuple[int, int],
    notes: list[str],
) -> None:
    """Add the task, the decoding and the names of the classes."""
    classes = classes_of(facts)
    outputs = {one.name: one.shape for one in facts.outputs}
    decoding = ultralytics.decoding_of(export, outputs) if export is not None else None
    origin, note = f"Ultralytics' metadata; shape of {facts.outputs[0].spelled}", ""
    if export is None:
        task = task_of(facts.outputs, facts.inputs[0].shape[0], size, classes)
        decoding, origin, note = task.decoding, task.origin, task.note
        found.add([Setting(key="model.task.kind", value=task.kind, origin=origin)])
        if classes and classes.names and task.kind != "generic":
            by = f"{classes.origin}: names of the classes"
            if _counted(len(classes.names), facts.outputs):
                found.add([Setting(key="model.task.names", value=classes.names, origin=by)])
            else:
                notes.append(f"{by} ({len(classes.names)}) are of another model: not used")
    _check_names(found, notes)
    decided = any(key.startswith("model.task.decode.") for key in found.settings)
    kind = found.value("model.task.kind")
    if note and "--task" in note and found.settings["model.task.kind"].origin == origin:
        notes.append(note)
    if kind != "detection" or decided:
        return
    if decoding is None:
        seen = ", ".join(one.spelled for one in facts.outputs[:8])
        notes.append(
            note
            if "--decode" in note
            else f"how the outputs ({seen}) become boxes is not known, so fidelity is SQNR: --decode "
            """'kind = "..."', with the keys of [model.task.decode] in quantd.toml"""
        )
        return
    if note and "--decode" in note:
        notes.append(note)
    default = asdict(Decoding(kind=""))
    found.add(
        Setting(key=f"model.task.decode.{key}", value=value, origin=origin)
        for key, value in asdict(decoding).items()
        if value != default[key]
    )


def _counted(names: int, outputs: Sequence[TensorFacts]) -> bool:
    """Return whether an output may have as many classes, or one more for the background."""
    shapes = [one.shape[1:] for one in outputs]
    return any(
        0 in shape or names in shape or names + 1 in shape or names + 4 in shape for shape in shapes
    )


def _check_names(found: Found, notes: list[str]) -> None:
    """Remove names that can't be shown, or that the task has no use for."""
    one = found.settings.get("model.task.names")
    if one is None or not isinstance(one.value, tuple):  # a file that the user named
        return
    if found.value("model.task.kind") not in _WITH_CLASSES:
        del found.settings[one.key]
        return
    names = [str(name) for name in one.value]
    if len(names) > _MOST_NAMES or not all(
        0 < len(name) <= _MOST_CHARACTERS and name.isprintable() for name in names
    ):
        del found.settings[one.key]
        notes.append(f"{one.origin} has names that can't be shown: not used")
