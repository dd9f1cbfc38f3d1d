"""Bars of the levels of sharing as a picture: SVG made here, PNG with matplotlib where it is installed.

    >>> svg = sharing_svg(sharing.levels(), "12 images")

The picture says what the table says and no more; it has no script, no font and no address in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from casync_compat.errors import UsageError
from casync_compat.oci.sharing import Level
from casync_compat.progress import human_size

__all__ = ["sharing_png", "sharing_svg"]

_WIDTH, _LABEL, _BAR, _GAP, _TOP = 760, 150, 26, 10, 60
_COLOURS = {"images": "#6b7280", "layers": "#2563eb", "files": "#059669"}
_CHUNKS = "#d97706"
_STORED = "#92400e"


def _colour(level: Level) -> str:
    return _COLOURS.get(level.name, _CHUNKS)


def _bar(level: Level, top: int, most: int) -> list[str]:
    room = _WIDTH - _LABEL - 190
    width = round(room * level.size / most)
    middle = top + _BAR * 2 // 3
    share = 100 * level.size / most
    out = [
        f'<text x="{_LABEL - 10}" y="{middle}" text-anchor="end">{escape(level.name)}</text>',
        f'<rect x="{_LABEL}" y="{top}" width="{width}" height="{_BAR}" fill="{_colour(level)}"/>',
    ]
    text = f"{human_size(level.size)}, {share:.1f} %"
    if level.stored is not None:
        stored = round(room * level.stored / most)
        out.append(f'<rect x="{_LABEL}" y="{top + _BAR - 7}" width="{stored}" height="7" fill="{_STORED}"/>')
        text += f" (zstd {human_size(level.stored)})"
    out.append(f'<text x="{_LABEL + width + 8}" y="{middle}">{escape(text)}</text>')
    return out


def sharing_svg(levels: Sequence[Level], title: str) -> str:
    """A bar for each level, the longest being everything without sharing."""
    most = max((level.size for level in levels), default=0) or 1
    height = _TOP + len(levels) * (_BAR + _GAP) + _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_GAP}" y="30" font-size="17">{escape(title)}</text>',
    ]
    for number, level in enumerate(levels):
        lines += _bar(level, _TOP + number * (_BAR + _GAP), most)
    return "\n".join([*lines, "</svg>"]) + "\n"


def sharing_png(levels: Sequence[Level], title: str) -> bytes:
    """The same bars as a PNG picture.

    :raises UsageError: matplotlib is not installed
    """
    import io  # the picture alone needs it

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # lazily: an extra, and 0.3 s to import
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "a PNG chart needs matplotlib: install pycasync[charts], or ask for a .svg"
        ) from error
    figure = Figure(figsize=(8, 0.8 + 0.4 * len(levels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [level.name for level in levels]
    bars = axes.barh(names, [level.size for level in levels], color=[_colour(level) for level in levels])
    axes.bar_label(bars, [human_size(level.size) for level in levels], padding=4)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.margins(x=0.2)
    axes.set_title(title)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    out = io.BytesIO()
    # No date and no version in the file: the same levels give the same bytes.
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
