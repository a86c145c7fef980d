"""Ratios to nginx as bars: what is longer than the line costs more than nginx. SVG, by hand."""

from html import escape

WIDTH, LEFT, RIGHT, ROW, TOP = 760, 250, 70, 26, 34
COLOURS = {"weir": "#2563a8", "haproxy": "#9aa3ad"}


def bars(title, rows):
    """`rows`: a label, whose bar it is, the ratio, the smallest and the largest of the rounds."""
    longest = max(2.0, *(high for _, _, _, _, high in rows))
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = TOP + ROW * len(rows) + 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (label, whose, ratio, low, high) in enumerate(rows):
        y = TOP + ROW * number
        middle = y + ROW / 2
        out += [
            f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y + 4}" width="{ratio * scale:.1f}" height="{ROW - 8}" '
            f'fill="{COLOURS[whose]}"/>',
            f'<path d="M{LEFT + low * scale:.1f} {middle}H{LEFT + high * scale:.1f}" stroke="#222222"/>',
            f'<text x="{LEFT + high * scale + 6:.1f}" y="{middle + 4}">{ratio:.2f}</text>',
        ]
    line, bottom = LEFT + scale, TOP + ROW * len(rows)
    out += [
        f'<path d="M{line:.1f} {TOP}V{bottom}" stroke="#b4231f" stroke-width="1.5"/>',
        f'<text x="{line:.1f}" y="{bottom + 16}" text-anchor="middle">nginx</text>',
        "</svg>",
    ]
    return "\n".join(out) + "\n"
