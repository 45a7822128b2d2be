import xml.etree.ElementTree as ET

from tenbin.report.svg import clean

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="10"
 height="5" onload="alert(1)"><script>alert(2)</script><foreignObject><p>x</p></foreignObject>
<defs><clipPath id="clip0"><rect width="1" height="1"/></clipPath></defs>
<image href="http://example.invalid/x.png"/><a href="javascript:alert(3)"><text>y</text></a>
<g clip-path="url(#clip0)" style="background:url(http://example.invalid)" onclick="x()" aria-label="z">
<path d="M0,0" fill="url(http://example.invalid/#g)" xlink:href="#q"/>
<text>&lt;b&gt;日本語\u202e</text></g></svg>"""


def test_only_drawing_elements_are_left():
    root = ET.fromstring(clean(SVG, "chart-a", 'a "label"'))
    assert [e.tag for e in root.iter()] == ["svg", "defs", "clipPath", "rect", "g", "path", "text"]
    names = {name for e in root.iter() for name in e.attrib}
    assert names == {"viewBox", "role", "aria-label", "style", "id", "width", "height", "clip-path", "d"}
    text = clean(SVG, "chart-a", "label")
    for bad in ("http", "script", "alert", "onclick", "onload", "xlink", "href"):
        assert bad not in text


def test_ids_are_made_unique_and_followed():
    one, two = (ET.fromstring(clean(SVG, name, "")) for name in ("a", "b"))
    assert [e.get("id") for e in one.iter() if e.get("id")] == ["a-clip0"]
    assert [e.get("id") for e in two.iter() if e.get("id")] == ["b-clip0"]
    assert next(e for e in one.iter("g")).get("clip-path") == "url(#a-clip0)"


def test_text_stays_text():
    root = ET.fromstring(clean(SVG, "a", ""))
    assert next(root.iter("text")).text == "<b>日本語\\u202e"
