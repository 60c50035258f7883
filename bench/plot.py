"""A bar chart as SVG, readable on light and on dark pages."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
BARS_AT = 210  # where the bars begin
LONGEST = 460  # of a bar
CUT = 100  # bars of a greater ratio are cut off
STEP = 26

STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-weight: 600 }
    .ours { fill: #0969da }
    .peer { fill: #8c959f }
    .unit { stroke: #24292f; stroke-dasharray: 2 3; opacity: .6 }
    @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 }
        .ours { fill: #4493f8 }
        .peer { fill: #7d8590 }
        .unit { stroke: #e6edf3 }
    }
"""


@dataclass(frozen=True)
class Bar:
    label: str
    ratio: float
    ours: bool


@dataclass(frozen=True)
class Panel:
    title: str
    bars: list[Bar]


def draw(panels):
    """Each panel has a scale of its own; the dotted line is 1 ×."""
    body = []
    y = 24
    for panel in panels:
        body.append(f'<text class="title" x="8" y="{y}">{escape(panel.title)}</text>')
        y += 12
        scale = LONGEST / max(bar.ratio for bar in panel.bars if bar.ratio <= CUT)
        top = y
        for bar in panel.bars:
            body.extend(_bar(bar, y, scale))
            y += STEP
        x = BARS_AT + scale
        body.append(f'<line class="unit" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y - 4}"/>')
        y += 26
    body = "\n".join(body)
    label = "fieldcrypt and pgcrypto, as ratios"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 20}" role="img"'
        f' aria-label="{label}">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _bar(bar, y, scale):
    cut = bar.ratio > CUT
    length = LONGEST if cut else bar.ratio * scale
    ratio = f"{bar.ratio:,.0f}" if bar.ratio >= 100 else f"{bar.ratio:.3g}"
    kind = "ours" if bar.ours else "peer"
    yield f'<text x="{BARS_AT - 8}" y="{y + 15}" text-anchor="end">{escape(bar.label)}</text>'
    if cut:  # a slanted end, and a gap before it: the bar goes on
        end = BARS_AT + length
        gap = end - 40
        points = f"{BARS_AT},{y} {gap},{y} {gap - 8},{y + 20} {BARS_AT},{y + 20}"
        yield f'<polygon class="{kind}" points="{points}"/>'
        points = f"{gap + 6},{y} {end},{y} {end - 8},{y + 20} {gap - 2},{y + 20}"
        yield f'<polygon class="{kind}" points="{points}"/>'
    else:
        yield f'<rect class="{kind}" x="{BARS_AT}" y="{y}" width="{length:.1f}" height="20"/>'
    yield f'<text x="{BARS_AT + length + 8:.1f}" y="{y + 15}">{ratio} ×</text>'
