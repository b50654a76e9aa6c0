"""A plot as SVG: a panel for each workload, a bar for each server."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.figures import FIGURES
from benchmarks.summary import Sample, summary

COLUMNS = 2
WIDTH = 900
MARGIN = 24
HEADING = 64
GAP = 36
PANEL_HEADING = 28
ROW = 22
BAR = 14
LABEL = 92
VALUE = 64

# One colour for us, one for others, an outline for floors: readable without colours, too.
STYLE = """
text { font: 12px system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; fill: #3c4450; }
.title { font-size: 17px; font-weight: 600; fill: #16202c; }
.panel { font-size: 13px; font-weight: 600; fill: #16202c; }
.ours { font-weight: 700; fill: #0b6b53; }
.value { font-variant-numeric: tabular-nums; }
rect.other { fill: #b9c3cf; }
rect.ours { fill: #12946f; }
rect.floor { fill: #f3f5f8; stroke: #8b97a5; stroke-dasharray: 3 2; }
""".strip()


def panels(samples: Sequence[Sample], titles: dict[str, str], figure: str, ours: str) -> str:
    """Bars of one figure, the shortest first; each panel has a scale of its own.

    Parameters:
        samples: what was measured.
        titles: of workloads; those that lack the figure have no panel.
        figure: its name.
        ours: the server that stands out.
    """
    found = {title: bars for name, title in titles.items() if len(bars := _bars(samples, name, figure)) > 1}
    width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    parts: list[str] = []
    top: float = HEADING
    entries = list(found.items())
    for first in range(0, len(entries), COLUMNS):
        line = entries[first : first + COLUMNS]
        for column, (title, bars) in enumerate(line):
            parts.append(_panel(title, bars, figure, ours, MARGIN + column * (width + GAP), top, width))
        top += PANEL_HEADING + ROW * max(len(bars) for _, bars in line) + GAP / 2
    heading = f"{FIGURES[figure].title}: shorter is better"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top:.0f}" '
            f'viewBox="0 0 {WIDTH} {top:.0f}" role="img" aria-label="{escape(heading)}">',
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{top:.0f}" rx="8" fill="#ffffff"/>',
            _text(MARGIN, 36, heading, "title"),
            *parts,
            "</svg>\n",
        ]
    )


def _bars(samples: Sequence[Sample], workload: str, figure: str) -> list[tuple[str, float]]:
    servers = dict.fromkeys(sample.server for sample in samples if sample.workload == workload)
    medians = [(server, found.median) for server in servers if (found := summary(samples, workload, server, figure))]
    return sorted(medians, key=lambda bar: bar[1])


def _panel(
    title: str, bars: list[tuple[str, float]], figure: str, ours: str, left: float, top: float, width: float
) -> str:
    longest = max(value for _, value in bars) or 1.0
    parts = [_text(left, top + 14, title, "panel")]
    for row, (server, value) in enumerate(bars):
        y = top + PANEL_HEADING + row * ROW
        # What is no server's name is a floor's: those have spaces.
        kind = "ours" if server == ours else "floor" if " " in server else "other"
        length = max((width - LABEL - VALUE) * value / longest, 1.0)
        parts += [
            _text(left + LABEL - 8, y + BAR - 3, server, kind, "end"),
            f'<rect class="{kind}" x="{left + LABEL:.1f}" y="{y:.1f}" width="{length:.1f}" height="{BAR}" rx="2"/>',
            _text(left + LABEL + length + 6, y + BAR - 3, FIGURES[figure].text(value), f"value {kind}"),
        ]
    return "\n".join(parts)


def _text(x: float, y: float, content: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
