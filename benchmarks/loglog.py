"""Two logarithmic axes, lines and their names, as SVG text."""

from __future__ import annotations

from math import log10
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 560, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50
LABEL_GAP = 13  # between two names at the right edge
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind too


class Line(NamedTuple):
    """A measured or computed line; a ceiling is dashed and grey."""

    name: str
    points: list[tuple[float, float]]
    ceiling: bool = False


class Panel(NamedTuple):
    title: str
    x_name: str
    lines: list[Line]


class Axes(NamedTuple):
    """Decades from low to high on both axes, in the frame whose left edge is at `left`."""

    left: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        right = (log10(x) - self.x[0]) / (self.x[1] - self.x[0])
        up = (log10(y) - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + LEFT + right * width, TOP + (1 - up) * height


def svg(panels: list[Panel]) -> str:
    """All panels side by side."""
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}"'
    style = 'font-family="sans-serif" font-size="11"'
    drawn = [part for place, panel in enumerate(panels) for part in _panel(panel, WIDTH * place)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>',
            '<rect width="100%" height="100%" fill="white"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, left: float) -> list[str]:
    xs = [x for line in panel.lines for x, _ in line.points]
    ys = [y for line in panel.lines for _, y in line.points]
    axes = Axes(left, _decades(xs), _decades(ys))
    title = f'<text x="{left + LEFT}" y="{TOP - 16}" font-size="13">{escape(panel.title)}</text>'
    return [title, *_grid(axes, panel.x_name), *_lines(axes, panel.lines)]


def _decades(values: list[float]) -> tuple[float, float]:
    return float(int(log10(min(values)) // 1)), float(-int(-log10(max(values)) // 1))


def _grid(axes: Axes, x_name: str) -> list[str]:
    parts = []
    for exponent in range(int(axes.x[0]), int(axes.x[1]) + 1):
        (x, bottom), (_, top) = axes.at(10**exponent, 10 ** axes.y[0]), axes.at(1, 10 ** axes.y[1])
        parts.append(f'<path d="M{x:.1f} {bottom:.1f}V{top:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{10**exponent:,}</text>')
    for exponent in range(int(axes.y[0]), int(axes.y[1]) + 1):
        (x, y), (end, _) = axes.at(10 ** axes.x[0], 10**exponent), axes.at(10 ** axes.x[1], 1)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{end:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**exponent:,.10g}</text>')
    middle, bottom = axes.at(10 ** ((axes.x[0] + axes.x[1]) / 2), 10 ** axes.y[0])
    return [*parts, f'<text x="{middle:.1f}" y="{bottom + 36:.1f}" text-anchor="middle">{escape(x_name)}</text>']


def _lines(axes: Axes, lines: list[Line]) -> list[str]:
    parts, used = [], 0.0
    colours = iter(COLOURS)
    for line in sorted(lines, key=lambda line: -line.points[-1][1]):
        colour, dashes = ("#777", ' stroke-dasharray="5 4"') if line.ceiling else (next(colours), "")
        points = [axes.at(x, y) for x, y in line.points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        if not line.ceiling:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        used = max(points[-1][1], used + LABEL_GAP)
        label = axes.at(10 ** axes.x[1], 1)[0] + 8
        parts.append(f'<text x="{label:.1f}" y="{used + 4:.1f}" fill="{colour}">{escape(line.name)}</text>')
    return parts
