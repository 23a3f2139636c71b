"""ASCII tables and sizes, as etcdctl draws them. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Titles centred, numbers to the right, all else to the left."""
    titles = [column.upper() for column in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    head = [title.center(width) for title, width in zip(titles, widths, strict=True)]
    body = [
        [
            cell.rjust(width) if cell.replace(".", "").isdecimal() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        for row in rows
    ]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *body)]
    return "\n".join([rule, lines[0], rule, *lines[1:], *([rule] if rows else [])])


def bytes_text(size: int) -> str:
    """`20 kB`, `1.5 MB`: powers of 1000, one decimal below ten (go-humanize)."""
    if size < 10:
        return f"{size} B"
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    value, unit = float(size), 0
    while value >= 1000 and unit < len(units) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {units[unit]}" if value < 9.95 else f"{value:.0f} {units[unit]}"
