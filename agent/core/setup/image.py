"""The image that a model takes: its type, layout, size and pixels, each from the first source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.core.errors import ModelError
from agent.core.fidelity.decoding import Shape
from agent.core.frames.pixels import PIXELS
from agent.core.setup.beginning import expected_pixels, spelled
from agent.core.setup.facts import ModelFacts, TensorFacts
from agent.core.setup.preprocessing import Preprocessing, preprocessing_of
from agent.core.setup.settings import PIXEL_KEYS, Found, Missing, Setting, pixel_values

_DTYPES = ("float32", "float16", "uint8", "int8")
PIXELS_OPTION = f"--pixels {' | '.join(PIXELS)}, or --scale with --mean and --std"


def image_of(facts: ModelFacts) -> TensorFacts:
    """Return the one input.

    Raises:
        ModelError: if the model does not take one image.
    """
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


def of_the_type(image: TensorFacts) -> Iterator[Setting]:
    """Yield what type and shape of the input state."""
    origin = f"the file: {image.spelled}"
    yield Setting(key="model.input.dtype", value=image.dtype, origin=origin)
    layout = _layout(image.shape)
    if layout:
        yield Setting(key="model.input.layout", value=layout, origin=origin)
    if image.shape[0] > 1:
        yield Setting(key="search.batch", value=(image.shape[0],), origin=origin)
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


def add_preprocessing(
    found: Found, facts: ModelFacts, image: TensorFacts, notes: list[str]
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


def conventions(found: Found, image: TensorFacts) -> Iterator[Setting]:
    """Yield the colour and the way of resizing that are usual, where no source states them."""
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


def size_of(found: Found, image: TensorFacts) -> tuple[int, int]:
    """Return height and width of the input, px; 0 if not known."""
    own = _sides(found, image)
    height, width = (found.value(f"model.input.{key}", 0) for key in ("height", "width"))
    return own[0] or int(height), own[1] or int(width)  # type: ignore[arg-type]


def drop_fixed_size(
    found: Found, image: TensorFacts, given: Mapping[str, Setting], notes: list[str]
) -> None:
    """Remove sides that the file fixes itself, but for those that the user gave."""
    for key, own in zip(("height", "width"), _sides(found, image), strict=True):
        path = f"model.input.{key}"
        one = found.settings.get(path)
        if one is None or not own or path in given:
            continue
        if one.value != own:
            notes.append(f"{one.origin} gives {key} {one.value}, but {image.spelled}: not used")
        del found.settings[path]


def drop_replaced_batch(
    found: Found, image: TensorFacts, given: Mapping[str, Setting], notes: list[str]
) -> None:
    """Remove the batch of a file if the user replaces its fixed size: the shape is a placeholder."""
    sides = zip(("height", "width"), _sides(found, image), strict=True)
    one = found.settings.get("search.batch")
    if one is None or "search.batch" in given:
        return
    replaced = [
        given[f"model.input.{key}"] for key, own in sides if own and _other(given, key, own)
    ]
    if replaced:
        notes.append(
            f"{replaced[0].origin} replaces the size of {image.spelled}: its batch is not used, "
            "engines take one frame"
        )
        del found.settings["search.batch"]


def _other(given: Mapping[str, Setting], key: str, own: int) -> bool:
    one = given.get(f"model.input.{key}")
    return one is not None and one.value != own


def _sides(found: Found, image: TensorFacts) -> Shape:
    """Return height and width as the file has them, 0 if they are free."""
    first = 1 if found.value("model.input.layout") == "NHWC" else 2
    return image.shape[first : first + 2]


def missing_values(found: Found, image: TensorFacts) -> Iterator[Missing]:
    """Yield what no source states and must not be guessed."""
    if not found.value("model.input.layout"):
        yield Missing(
            key="model.input.layout",
            what=f"where the channels are in the input {image.spelled}",
            option="--layout NCHW | NHWC",
        )
    if 0 in size_of(found, image):
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
