"""Values of a configuration with their origins, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import isclose

from agent.core.frames.pixels import PIXELS, PixelPreset

Value = str | int | float | bool | tuple[float, ...] | tuple[str, ...]
_ORDER = ("width", "height", "layout", "color", "dtype", "pixels", "scale", "mean", "std", "resize")
PIXEL_KEYS = frozenset(f"model.input.{key}" for key in ("pixels", "scale", "mean", "std"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value.

    Attributes:
        key: Dotted, as in quantd.toml.
        origin: In words, such as "metadata of the file: imgsz".
    """

    key: str
    value: Value
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A value that no source gives and that must not be guessed.

    Attributes:
        what: The value in words.
        option: That gives it, with what it may be.
        key: The first of its dotted keys.
    """

    what: str
    option: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is known of a model.

    Attributes:
        settings: In the order of the configuration.
        missing: Without these nothing can be run.
        notes: What is not known, but not needed, with the option that gives it, and what is not
            used, with the reason.
        size: Height and width of the input, px; 0 if not known.
    """

    settings: tuple[Setting, ...]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]
    size: tuple[int, int]

    @property
    def values(self) -> dict[str, Value]:
        """Return the values by their keys."""
        return {one.key: one.value for one in self.settings}


class Found:
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


def pixel_values(pixels: PixelPreset) -> Mapping[str, Value]:
    """Return the keys that set these values: the name of a preset, or scale, mean and std."""
    for name, preset in PIXELS.items():
        if same_pixels(preset, pixels):
            return {"model.input.pixels": name}
    return {f"model.input.{key}": value for key, value in asdict(pixels).items() if key != "color"}


def same_pixels(one: PixelPreset, other: PixelPreset) -> bool:
    """Return whether two presets are the same factor and shift of each channel."""
    if other.color and one.color and one.color != other.color:
        return False
    return all(
        isclose(left, right, rel_tol=1e-4, abs_tol=1e-9)
        for left, right in zip(_affine(one), _affine(other), strict=True)
    )


def _affine(preset: PixelPreset) -> list[float]:
    factors = [preset.scale / std if std else 0.0 for std in preset.std]
    shifts = [mean / (std or 1.0) for mean, std in zip(preset.mean, preset.std, strict=True)]
    return [*factors, *shifts]
