"""One chart as inline SVG.

Lengths across are percent and lengths down are pixels, so a chart is as wide as the page and its
texts keep their size on a phone. Colours come from the classes of the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from agent.core.report.wording import escape_unprintable

HEIGHT_PX = 220
_UNITS = 1000  # of a path, across
_TICKS = 5
_COLOURS = 10  # in the style sheet
_MARKERS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "M-4.5-4.5h9v9h-9z",
    "M0-6.2L6.2 0L0 6.2L-6.2 0z",
    "M0-5.6L5.8 4.6H-5.8z",
    "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The values of one direction.

    Attributes:
        title: With the unit.
        log: Whether equal ratios are equally far apart; `low` is then above 0.
    """

    low: float
    high: float
    title: str
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value is, 0..1 between the ends."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def share(self, value: float) -> float:
        """Return where a value is, 0..1; values outside are at the ends."""
        return min(max(self.place(value), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Return round values between the ends."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            factors = (1, 2, 5) if last - first <= 3 else (1,)
            found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
            return [one for one in found if self.low <= one <= self.high]
        step = 10 ** math.floor(math.log10((self.high - self.low) / _TICKS))
        step *= next((by for by in (1, 2, 5) if (self.high - self.low) / (step * by) <= _TICKS), 10)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


class Chart:
    """Axes with what is drawn between them."""

    def __init__(self, x: Axis, y: Axis, height_px: int = HEIGHT_PX) -> None:
        self.x, self.y = x, y
        self._height_px = height_px
        self._parts: list[Markup] = []

    def line(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Draw a line through points; what is outside of the chart is cut off."""
        places = [f"{_UNITS * self.x.place(x):.1f} {self._down_px(y):.1f}" for x, y in points]
        self._parts.append(
            Markup('<svg viewBox="0 0 {0} {1}" width="100%" height="{1}" preserveAspectRatio="none">'
                   '<path class="line {2}" d="M{3}"/></svg>')
            .format(_UNITS, self._height_px, css, "L".join(places))
        )  # fmt: skip

    def point(
        self,
        at: tuple[float, float],
        spans: tuple[tuple[float, float] | None, tuple[float, float] | None],
        shape: str,
        css: str,
    ) -> None:
        """Draw a marker with the bars of its intervals.

        Args:
            at: Across and up.
            spans: Its interval across, and up; None without one.
            shape: As `marker` returns it.
            css: Classes.
        """
        (x, y), (across, up) = at, spans
        if across:
            self._segment((across[0], y), (across[1], y), f"whisker {css}")
        if up:
            self._segment((x, up[0]), (x, up[1]), f"whisker {css}")
        self._parts.append(
            Markup('<svg x="{}" y="{:.1f}" class="free"><path class="marker {}" d="{}"/></svg>')
            .format(_percent(self.x.share(x)), self._down_px(y), css, shape)
        )  # fmt: skip

    def band(self, begin: float, end: float, css: str) -> None:
        """Fill a stretch of the x axis."""
        left, right = self.x.share(begin), self.x.share(end)
        self._parts.append(
            Markup('<rect class="band {}" x="{}" y="0" width="{}" height="{}"/>')
            .format(css, _percent(left), _percent(right - left), self._height_px)
        )  # fmt: skip

    def bar(self, row_px: float, value: float, css: str, thick_px: float) -> None:
        """Draw a bar from the left edge, its upper edge so far down."""
        self._parts.append(
            Markup('<rect class="fill {}" x="0" y="{:.1f}" width="{}" height="{:.1f}" rx="1.5"/>')
            .format(css, row_px, _percent(self.x.share(value)), thick_px)
        )  # fmt: skip

    def text(self, row_px: float, words: str) -> None:
        """Write at the left edge, the base line so far down."""
        words = escape_unprintable(words)
        self._parts.append(Markup('<text x="0" y="{:.1f}">{}</text>').format(row_px, words))

    def upright(self, x: float, css: str) -> None:
        """Draw a line over the whole height, unless it is outside."""
        if self.x.low <= x <= self.x.high:
            self._segment((x, self.y.low), (x, self.y.high), css)

    def level(self, y: float, css: str, ends: tuple[float, float] | None = None) -> None:
        """Draw a level line, over the whole width or between two ends."""
        begin, end = ends or (self.x.low, self.x.high)
        self._segment((begin, y), (end, y), css)

    def drawn(self, label: str, *, y_ticks: bool = True) -> Markup:
        """Return the SVG.

        Args:
            label: What it shows, for readers without the picture.
            y_ticks: False where the rows have names instead of values.
        """
        bottom_px = self._height_px
        grid = [
            Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="{1}"/>'
                   '<text class="tick" x="{0}" y="{2}" text-anchor="middle">{3}</text>')
            .format(_percent(self.x.share(one)), bottom_px, bottom_px + 16, f"{one:.6g}")
            for one in self.x.ticks()
        ]  # fmt: skip
        grid += [
            Markup('<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>'
                   '<text class="tick" x="-7" y="{1:.1f}" text-anchor="end">{2}</text>')
            .format(self._down_px(one), self._down_px(one) + 4, f"{one:.6g}")
            for one in (self.y.ticks() if y_ticks else ())
        ]  # fmt: skip
        return Markup('<svg class="chart{}" role="img" aria-label="{}" height="{}">{}{}</svg>').format(
            "" if y_ticks else " wide", escape_unprintable(label), bottom_px,
            _joined(grid), _joined(self._parts),
        )  # fmt: skip

    def _segment(self, begin: tuple[float, float], end: tuple[float, float], css: str) -> None:
        (x1, y1), (x2, y2) = begin, end
        self._parts.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                css, _percent(self.x.share(x1)), _percent(self.x.share(x2)),
                self._down_px(y1), self._down_px(y2),
            )
        )  # fmt: skip

    def _down_px(self, y: float) -> float:
        return self._height_px * (1 - self.y.share(y))


def colour(number: int) -> str:
    """Return the class of a candidate's colour, by its place among the candidates."""
    return f"c{number % _COLOURS}"


def marker(number: int) -> str:
    """Return the path of a candidate's marker, around 0; with the colour it names fifty apart."""
    return _MARKERS[(number + number // _COLOURS) % len(_MARKERS)]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)
