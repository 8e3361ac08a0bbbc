"""Conclude the configuration of a model from what was seen of it, and name what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict

from agent.core.errors import ModelError
from agent.core.fidelity.decoding import Decoding, Shape
from agent.core.frames.pixels import PIXELS
from agent.core.setup import ultralytics
from agent.core.setup.beginning import expected_pixels, spelled
from agent.core.setup.facts import ModelFacts, TensorFacts
from agent.core.setup.outputs import is_tensorflow, task_of
from agent.core.setup.preprocessing import Preprocessing, classes_of, preprocessing_of
from agent.core.setup.settings import (
    PIXEL_KEYS,
    Missing,
    Setting,
    Setup,
    Value,
    pixel_values,
)

_MOST_NAMES = 65_536
_MOST_CHARACTERS = 256
_WITH_CLASSES = ("classification", "segmentation", "detection")
_DTYPES = ("float32", "float16", "uint8", "int8")
PIXELS_OPTION = f"--pixels {' | '.join(PIXELS)}, or --scale with --mean and --std"
_ORDER = ("width", "height", "layout", "color", "dtype", "pixels", "scale", "mean", "std", "resize")


def set_up(facts: ModelFacts, given: Mapping[str, Setting]) -> Setup:
    """Return what is known of a model and what is not.

    Args:
        facts: Of the model file and the files beside it.
        given: By key, what the user gave, which comes before everything else.

    Raises:
        ModelError: if the model does not take one image.
    """
    image = _image(facts)
    found = _Found(given)
    export = ultralytics.read_export(facts.metadata)
    notes: list[str] = []
    found.add(_of_the_type(image))
    if export is not None:
        found.add(ultralytics.settings_of(export, facts))
    _add_preprocessing(found, facts, image, notes)
    if is_tensorflow(facts.outputs):
        convention = "the convention of TensorFlow's detectors"
        found.add([Setting(key="model.input.color", value="RGB", origin=convention)])
    found.add(_conventions(found, image))
    missing = tuple(_missing(found, image))
    _add_task(found, facts, export, _size(found, image), notes)
    return Setup(settings=found.ordered(), missing=missing, notes=tuple(notes))


class _Found:
    """Settings by their keys; the first source of a value counts."""

    def __init__(self, given: Mapping[str, Setting]) -> None:
        self.settings = dict(given)

    def add(self, settings: Iterable[Setting]) -> None:
        """Add settings with keys that are free; those of pixels are one group."""
        taken = bool(self.settings.keys() & PIXEL_KEYS)
        for one in settings:
            if one.key not in self.settings and not (taken and one.key in PIXEL_KEYS):
                self.settings[one.key] = one

    def value(self, key: str, default: Value = "") -> Value:
        """Return the value of a key."""
        one = self.settings.get(key)
        return default if one is None else one.value

    def ordered(self) -> tuple[Setting, ...]:
        """Return the settings of the input, then those of the task."""
        order = {f"model.input.{key}": place for place, key in enumerate(_ORDER)}
        return tuple(sorted(self.settings.values(), key=lambda one: order.get(one.key, len(order))))


def _image(facts: ModelFacts) -> TensorFacts:
    if len(facts.inputs) != 1:
        names = ", ".join(one.name for one in facts.inputs[:8]) or "none"
        raise ModelError(
            f"the model has {len(facts.inputs)} inputs ({names}); quantd feeds one image",
            code="several_inputs",
            hint="export a model with a single image input",
        )
    (image,) = facts.inputs
    if len(image.shape) != 4:
        raise ModelError(
            f"input {image.spelled}: an image has 4 dimensions",
            code="wrong_shape",
            hint="export the model with an input of N, C, H, W or N, H, W, C",
        )
    if image.dtype not in _DTYPES:
        raise ModelError(
            f"input {image.spelled}: quantd feeds {', '.join(_DTYPES)}",
            code="wrong_dtype",
            hint="export the model with an input of one of these types",
        )
    return image


def _of_the_type(image: TensorFacts) -> Iterator[Setting]:
    origin = f"the file: {image.spelled}"
    yield Setting(key="model.input.dtype", value=image.dtype, origin=origin)
    layout = _layout(image.shape)
    if layout:
        yield Setting(key="model.input.layout", value=layout, origin=origin)
    if image.dtype == "uint8":
        origin = "the file: uint8 is 0..255 by its type"
        yield Setting(key="model.input.pixels", value="0..255", origin=origin)


def _layout(shape: Shape) -> str:
    """Return where the channels are; "" if that is not certain."""
    first, last = shape[1] in {1, 3}, shape[3] in {1, 3}
    if first != last:
        return "NCHW" if first else "NHWC"
    if not first and shape[1] == 0 and min(shape[2:]) > 4:
        return "NCHW"
    if not first and shape[3] == 0 and min(shape[1:3]) > 4:
        return "NHWC"
    return ""


def _add_preprocessing(
    found: _Found, facts: ModelFacts, image: TensorFacts, notes: list[str]
) -> None:
    """Add the files beside the model and the graph's own normalization, unless they contradict."""
    described = preprocessing_of(facts)
    if described is not None and not _same_size(described, image):
        notes.append(f"{described.origin} is for another size than {image.spelled}: not used")
        described = None
    expected = expected_pixels(facts.begins) if facts.begins else ""
    if described is not None and expected:
        notes.append(
            f"{described.origin} normalizes, and so does the graph: which of the two is to be used "
            "is not known"
        )
        return
    if described is not None:
        found.add(_described(described))
        if described.cropped:
            notes.append(
                f"{described.origin.partition(': ')[0]} crops the middle of the picture; quantd "
                "resizes the whole of it"
            )
    if expected and facts.begins:
        origin = spelled(facts.begins)
        found.add([Setting(key="model.input.pixels", value=expected, origin=origin)])


def _described(described: Preprocessing) -> Iterator[Setting]:
    if described.size:
        height, width = described.size
        yield Setting(key="model.input.width", value=width, origin=described.origin)
        yield Setting(key="model.input.height", value=height, origin=described.origin)
    color = Setting(key="model.input.color", value=described.pixels.color, origin=described.origin)
    yield color
    for key, value in pixel_values(described.pixels).items():
        yield Setting(key=key, value=value, origin=described.origin)


def _same_size(described: Preprocessing, image: TensorFacts) -> bool:
    sides = image.shape[2:] if _layout(image.shape) == "NCHW" else image.shape[1:3]
    return described.size is None or all(
        own in {0, other} for own, other in zip(sides, described.size, strict=True)
    )


def _conventions(found: _Found, image: TensorFacts) -> Iterator[Setting]:
    preset = PIXELS.get(str(found.value("model.input.pixels")))
    place = 3 if found.value("model.input.layout") == "NHWC" else 1
    if image.shape[place] == 1:
        origin = f"the file: {image.spelled} has 1 channel"
        yield Setting(key="model.input.color", value="GRAY", origin=origin)
    elif preset is None or not preset.color:
        origin = "usual; not in the file. --color BGR for a model trained on pictures from OpenCV"
        yield Setting(key="model.input.color", value="RGB", origin=origin)
    origin = "the default; not in the file. --resize letterbox if it was trained so"
    yield Setting(key="model.input.resize", value="stretch", origin=origin)


def _size(found: _Found, image: TensorFacts) -> tuple[int, int]:
    first = 1 if found.value("model.input.layout") == "NHWC" else 2
    own = image.shape[first : first + 2]
    height, width = (found.value(f"model.input.{key}", 0) for key in ("height", "width"))
    return own[0] or int(height), own[1] or int(width)  # type: ignore[arg-type]


def _missing(found: _Found, image: TensorFacts) -> Iterator[Missing]:
    if not found.value("model.input.layout"):
        yield Missing(
            key="model.input.layout",
            what=f"where the channels are in the input {image.spelled}",
            option="--layout NCHW | NHWC",
        )
    if 0 in _size(found, image):
        yield Missing(
            key="model.input.width",
            what=f"the size of the input, which {image.spelled} leaves open",
            option="--size WIDTHxHEIGHT, e.g. --size 640x480",
        )
    if not found.settings.keys() & PIXEL_KEYS:
        yield Missing(
            key="model.input.pixels",
            what=f"the range of the pixels that {image.spelled} expects",
            option=PIXELS_OPTION,
        )


def _add_task(
    found: _Found,
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
        names = classes.names if classes else ()
        if names and classes and task.kind != "generic":
            by = f"{classes.origin}: names of the classes"
            found.add([Setting(key="model.task.names", value=names, origin=by)])
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


def _check_names(found: _Found, notes: list[str]) -> None:
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
