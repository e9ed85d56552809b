"""Line charts as SVG that stands in a page: no script, colours and letters of the page's own style."""

import html
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

WIDTH, HEIGHT = 340, 220               # of the drawing, which the page scales
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 26, 34  # margins
SKIPPED = 0.1  # share of a long curve's begin that does not decide the scale where it would dwarf the rest, as first epochs do
LONG = 10      # points from which that is so
DWARFED = 2.5  # times the span of the rest
LINES = 4      # styles of lines: classes line0 to line3 of the page's style

Points = Sequence[tuple[float, float]]


def line_chart(title: str, series: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """A chart of named series of points; '' where nothing is finite. A series of one point is a dot."""
    series = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    later = [y for points in series.values() for _, y in points[int(SKIPPED * len(points)) if len(points) >= LONG else 0:]]
    if max(ys) - min(ys) > DWARFED * (max(later) - min(later)) > 0:
        ys = later
    x_ticks, y_ticks = (ticks(min(values), max(values)) for values in (xs, ys))
    (x0, x1), (y0, y1) = ((min(marks[0], min(values)), max(marks[-1], max(values)))
                          for marks, values in ((x_ticks, xs), (y_ticks, ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y0) / ((y1 - y0) or 1) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(min(max(down, TOP), HEIGHT - BOTTOM), 1)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for value in y_ticks:
        across, down = place(x0, value)
        parts.append(f'<path class="tick" d="M{across} {down}H{WIDTH - RIGHT}"/>'
                     f'<text x="{LEFT - 5}" y="{down + 3.5}" text-anchor="end">{_tick(value, y_ticks)}</text>')
    for value in x_ticks:
        across, _ = place(value, y0)
        parts.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{_tick(value, x_ticks)}</text>')
    for number, points in enumerate(series.values()):
        at = [place(*point) for point in points]
        if len(at) == 1:
            parts.append(f'<circle class="line{number % LINES}" cx="{at[0][0]}" cy="{at[0][1]}" r="2.5"/>')
        else:
            parts.append(f'<path class="line{number % LINES}" d="M{"L".join(f"{x} {y}" for x, y in at)}"/>')
    parts += _legend(list(series))
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_label)}</text>')
    parts.append(f'<text transform="translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
                 f"{html.escape(y_label)}</text></svg>")
    return "".join(parts)


def _legend(names: Sequence[str]) -> list[str]:
    """What each line is: a bit of the line, and its name, side by side."""
    width = (WIDTH - LEFT) / max(len(names), 1)
    fits = max(3, int(width / 6) - 3)  # letters
    shown = [name if len(name) <= fits else f"{name[:fits - 1]}…" for name in names]
    return [f'<path class="line{number % LINES}" d="M{LEFT + number * width:.0f} 12h14"/>'
            f'<text x="{LEFT + number * width + 18:.0f}" y="15.5">{html.escape(short)}<title>{html.escape(name)}</title></text>'
            for number, (name, short) in enumerate(zip(names, shown, strict=True))]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between low and high, `most` of them at most: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20)
                if math.floor(high / (factor * power) + 1e-9) - math.ceil(low / (factor * power) - 1e-9) < most)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)] or [low, high]


def _tick(value: float, marks: Sequence[float]) -> str:
    """A number at an axis, with as many digits as tell the marks apart."""
    gap = min((abs(b - a) for a, b in pairwise(marks)), default=abs(value) or 1.0)
    digits = max(0, -math.floor(math.log10(gap) + 1e-9))
    return f"{value + 0.0:,.{min(digits, 4)}f}"
