"""From a Vega-Lite specification to an SVG that is safe inside the page: known tags, unique ids, no links."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import vl_convert

from tenbin.report.text import visible

NAMESPACE = "{http://www.w3.org/2000/svg}"
TAGS = frozenset(
    ("svg", "g", "path", "rect", "line", "circle", "text", "tspan", "defs", "clipPath", "title", "desc")
)
DROPPED = frozenset({"style", "class", "pointer-events"})
FONTS = "'Noto Sans JP','Noto Sans CJK JP','Hiragino Sans','Yu Gothic',Meiryo,sans-serif"
REFERENCE = re.compile(r"url\(#([\w-]+)\)")


def render(spec: dict[str, Any], chart_id: str, label: str) -> str:
    """The chart as an `<svg>` element whose ids begin with `chart_id`, which no other chart may have.

    Args:
        spec: Vega-Lite with its data inside.
        chart_id: letters and dashes.
        label: what a screen reader says of the whole chart.
    """
    assert re.fullmatch(r"[a-z0-9-]+", chart_id), chart_id
    return clean(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]), chart_id, label)


def clean(svg: str, chart_id: str, label: str) -> str:
    """Keep only drawing elements and their own attributes; everything else is a mistake or an attack."""
    root = ET.fromstring(svg)
    _clean_element(root, chart_id)
    width, height = root.get("width", "0"), root.get("height", "0")
    root.attrib.clear()
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("role", "img")
    root.set("aria-label", visible(label))
    root.set("style", f"max-width:{width}px")
    _without_namespace(root)
    return ET.tostring(root, encoding="unicode")


def _clean_element(element: ET.Element, chart_id: str) -> None:
    for child in list(element):
        if not isinstance(child.tag, str) or child.tag.removeprefix(NAMESPACE) not in TAGS:
            element.remove(child)
        else:
            _clean_element(child, chart_id)
    for name, value in list(element.attrib.items()):
        if name in DROPPED or "}" in name or name == "href" or name.startswith(("on", "aria-", "role")):
            del element.attrib[name]
        elif name == "id":
            element.set(name, f"{chart_id}-{value}")
        elif "url(" in value:
            inside = REFERENCE.fullmatch(value)
            if inside is None:
                del element.attrib[name]
            else:
                element.set(name, f"url(#{chart_id}-{inside.group(1)})")
    if element.text:
        element.text = visible(element.text)


def _without_namespace(root: ET.Element) -> None:
    """HTML knows `<svg>` by its name; a namespace prefix would hide it."""
    for element in root.iter():
        element.tag = element.tag.removeprefix(NAMESPACE)
