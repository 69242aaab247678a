"""Tables of figures as bars, in SVG: a bar for each median, a line for its range, ours in a colour of their own."""

from __future__ import annotations

from xml.sax.saxutils import escape

from benchmarks.tools.figures import Table, median, spread

WIDTH, LABELS, VALUES = 860, 290, 170
BAR, LINE, HEAD = 14, 20, 26
OURS, OTHERS, RANGE, TEXT = "#c2410c", "#94a3b8", "#1e293b", "#1e293b"


def bars(table: Table) -> str:
    """The whole table in one picture, a group of bars for each column."""
    most = max(value for cells in table.rows.values() for values in cells.values() for value in values) or 1
    scale = (WIDTH - LABELS - VALUES) / most
    parts, top = [_text(8, 18, table.title, weight="bold")], HEAD + 4
    for column in table.columns:
        if column:
            parts.append(_text(8, top + 14, column, weight="bold"))
            top += HEAD - 4
        for name, cells in table.rows.items():
            if values := cells.get(column):
                parts += _bar(name, values, scale, top)
                top += LINE
        top += 6
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def _bar(name: str, values: list[float], scale: float, top: float) -> list[str]:
    middle, low, high = (LABELS + scale * value for value in (median(values), min(values), max(values)))
    colour = OURS if name.startswith("ours") else OTHERS
    line, foot = top + BAR / 2, top + BAR - 2
    return [
        _text(LABELS - 8, foot, name, anchor="end"),
        f'<rect x="{LABELS}" y="{top}" width="{middle - LABELS:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{low:.1f} {line}H{high:.1f}" stroke="{RANGE}"/>',
        _text(high + 8, foot, spread(values)),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'fill="{TEXT}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(text)}</text>'
