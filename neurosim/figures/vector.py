"""A figure as SVG that stands inside a page, beside others."""

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from neurosim.figures.runs import STYLE, TEXT, laid_out

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

PIXELS = 96 / 72
"""Of a screen, by point."""

_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG = re.compile(r"-?\d+\.\d{3,}")


@matplotlib.rc_context(STYLE)
def svg(figure: Figure, label: str, name: str) -> str:
    """The figure as an `<svg>` element, see-through, whose letters are text.

    Its property `--width` is how wide it was drawn, which the style of the page goes by. label:
    what it shows, for who cannot see it. name: its own in the page; identifiers begin with
    it, as those of several figures must not be the same.
    """
    written = io.BytesIO()
    with matplotlib.rc_context(STYLE | TEXT | {"svg.hashsalt": name}):
        laid_out(figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(written.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            # The style is one for all of a page, which says it itself.
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    _rename(root, name)
    for element in root.iter():
        for key in ("d", "x", "y", "points"):
            if key in element.attrib:
                element.set(key, _LONG.sub(_rounded, element.get(key, "")))
    width = round(PIXELS * float(root.get("width", "0").removesuffix("pt")))
    for key in ("width", "height", "version"):
        root.attrib.pop(key)
    root.attrib |= {"role": "img", "aria-label": label, "style": f"--width:{width}px"}
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _rename(root: ElementTree.Element, name: str) -> None:
    """Identifiers that something refers to become the page's own; others go."""
    link = f"{{{XLINK}}}href"
    used = {e.get(link, "").removeprefix("#") for e in root.iter()}
    used |= {
        found for e in root.iter() for v in e.attrib.values() for found in _REFERENCE.findall(v)
    }
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{name}-{own}")
        for key, value in element.attrib.items():
            if key == link and value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _rounded(number: re.Match[str]) -> str:
    """To a hundredth of a point, which nobody sees; a third of the size."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
