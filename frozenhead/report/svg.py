"""A matplotlib figure as SVG that can stand inside an HTML page, beside others, in light and in dark.

Imports labels. Text stays text, the colour of the ink is the page's own (`currentColor`), ids carry the
figure's name, and one figure gives one string of bytes, whatever the user's matplotlibrc says.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from frozenhead.labels import shown

# The colour that `to_svg` turns into currentColor; no palette has it.
INK = "#010203"

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "frozenhead",
    "text.usetex": False,
    "text.parse_math": False,  # a label may hold dollar signs
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "image.interpolation": "none",  # keep one pixel per cell: a 77 x 77 table is 77 x 77 pixels
}

_TAG = re.compile(r"<[^>]*>")  # matplotlib escapes < and > in text and attributes
_REFERENCE = re.compile(r'url\(#([^)]+)\)|href="#([^"]+)"')
_PATH = re.compile(r' d="([^"]*)"')
_NUMBER = re.compile(r"-?\d+\.\d+")
_DOT = re.compile(r"M (\S+) (\S+) L \1 \2(?: |$)")  # a stroke of no length: with round ends, a dot
_UPRIGHT = re.compile(r' transform="rotate\(-?0 [^"]*"')
_PLACE = re.compile(r' (x|y|transform)="([^"]*)"')
_FONT = re.compile(r"font-family: 'DejaVu Sans'; |(font: [^'\";]*?)'DejaVu Sans'")  # the latter before matplotlib 3.11
_FONTS = "system-ui, sans-serif"


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with our settings alone; the caller's settings come back afterwards.

    A character that matplotlib's font lacks is measured as a box and drawn by the browser's fonts, so the warning
    about it is no news to anyone.
    """
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def to_svg(figure: Figure, *, name: str, alt: str) -> str:
    """Write `figure` as one inline `<svg>` element. Call it within `house_style`.

    Parameters
    ----------
    figure : Figure
        What to write.
    name : str
        Letters, digits and hyphens, unique on the page: the start of every id in the figure.
    alt : str
        What the figure shows, for those who do not see it.
    """
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") :].strip()  # without the XML prolog
    body = re.sub(r"<!--.*?-->\s*|<style.*?</style>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r">\n\s*<", "><", body)
    body = _rewrite_tags(body, name)
    head, rest = body.split(">", 1)
    # Children inherit what matplotlib had asked for by a rule for `*`, which would have hit the whole page.
    label = html.escape(shown(alt, width=300))
    head += f' role="img" aria-label="{label}" style="stroke-linejoin:round;stroke-linecap:butt;font-family:{_FONTS}"'
    return f"{head}><title>{label}</title>{rest}"


def _short_path(path: str) -> str:
    """The same path in fewer bytes: hundredths of a point, and dots, to a tenth, each from where the last one is.

    M 9.96 5.123 L 9.96 5.123 M 12.5 6.25 L 12.5 6.25  ->  m10 5.1h0m2.5 1.1h0
    """
    path = " ".join(path.split())
    dots = _DOT.findall(path)
    if not dots or _DOT.sub("", path):
        return _rounded(path)
    short, at = [], (0, 0)
    for x, y in dots:
        place = round(10 * float(x)), round(10 * float(y))
        short.append(f"m{(place[0] - at[0]) / 10:g} {(place[1] - at[1]) / 10:g}h0")
        at = place
    return "".join(short)


def _rounded(numbers: str) -> str:
    return _NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), numbers)


def _rewrite_tags(body: str, name: str) -> str:
    used = {one or other for one, other in _REFERENCE.findall(body)}

    def rewrite_id(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    def rewrite(match: re.Match[str]) -> str:
        tag = match[0].replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
        tag = _UPRIGHT.sub("", tag)
        tag = _PLACE.sub(lambda place: f' {place[1]}="{_rounded(place[2])}"', tag)
        tag = _PATH.sub(lambda path: f' d="{_short_path(path[1])}"', tag)
        tag = re.sub(r' id="([^"]*)"', rewrite_id, tag)
        tag = re.sub(r'url\(#|href="#', rf"\g<0>{name}-", tag)
        tag = _FONT.sub(lambda font: f"{font[1]}{_FONTS}" if font[1] else "", tag)
        return tag.replace(INK, "currentColor")

    return _TAG.sub(rewrite, body)
