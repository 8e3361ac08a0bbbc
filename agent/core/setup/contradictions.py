"""What a model file states of its input, against what a configuration feeds it."""

from __future__ import annotations

from collections.abc import Iterator

from agent.core.errors import ModelError
from agent.core.frames.input_spec import InputSpec
from agent.core.frames.pixels import PIXELS, PixelPreset
from agent.core.setup import ultralytics
from agent.core.setup.facts import ModelFacts
from agent.core.setup.image import add_preprocessing, image_of, of_the_type
from agent.core.setup.settings import PIXEL_KEYS, Found, pixel_values, same_pixels

_CHOICES = ("color", "resize")


def contradictions(facts: ModelFacts, spec: InputSpec) -> tuple[str, ...]:
    """Return what the file states otherwise than it is fed, each in a sentence.

    Args:
        facts: Of the model file and the files beside it.
        spec: The model's input, as configured.
    """
    try:
        image = image_of(facts)
    except ModelError:
        return ()  # whether it can be used is for the intake to decide
    found = Found({})
    found.add(of_the_type(image))
    export = ultralytics.read_export(facts.metadata)
    if export is not None:
        found.add(ultralytics.settings_of(export, facts))
    add_preprocessing(found, facts, image, [])
    return (*_pixels(found, spec), *_choices(found, spec))


def _pixels(found: Found, spec: InputSpec) -> Iterator[str]:
    stated = {key: one for key, one in found.settings.items() if key in PIXEL_KEYS}
    if not stated:
        return
    values = {key.rpartition(".")[2]: one.value for key, one in stated.items()}
    name = values.pop("pixels", "")
    meant = PIXELS[str(name)] if name else PixelPreset(**values)  # type: ignore[arg-type]
    mean, std = (one * 3 if len(one) == 1 else one for one in (spec.mean, spec.std))
    fed = PixelPreset(scale=spec.scale, mean=mean, std=std, color=spec.color)
    if not same_pixels(meant, fed):
        (origin, *_) = (one.origin for one in stated.values())
        yield f"the file states pixels {_named(meant)} ({origin}), but they are {_named(fed)}"


def _choices(found: Found, spec: InputSpec) -> Iterator[str]:
    for key in _CHOICES:
        one = found.settings.get(f"model.input.{key}")
        fed = getattr(spec, key)
        if one is not None and one.value != fed:
            yield f"the file states {key} {one.value} ({one.origin}), but it is {fed}"


def _named(pixels: PixelPreset) -> str:
    """Return the name of a preset, or scale, mean and std."""
    values = pixel_values(pixels)
    name = values.get("model.input.pixels")
    if name:
        return f"{name} in {pixels.color}" if PIXELS[str(name)].color else str(name)
    return f"of scale {pixels.scale:.4g}, mean {_list(pixels.mean)} and std {_list(pixels.std)}"


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
