import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from tests.report.studies import HOSTILE, make_study

from tenbin.report import build_report, to_html, write_report
from tenbin.report.text import visible

VOID = {"meta", "img", "br", "hr", "link", "input"}
TAGS = set(
    re.findall(
        r"\w+",
        """html head meta title style body header main section nav div p h1 h2 h3 h4 a ul ol li details
        summary pre span bdi table caption thead tbody tr th td strong figure figcaption article
        svg g path rect line circle text tspan defs clippath""",
    )
)


class Page(HTMLParser):
    """Every tag with its attributes, the texts, and whether all tags are closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.ids, self.stack = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module", params=["classification", "reading", "summarization"])
def study(request, tmp_path_factory):
    return make_study(tmp_path_factory.mktemp(request.param), request.param, n=60)


@pytest.fixture(scope="module", params=["en", "ja"])
def html(request, study):
    return write_report(study, language=request.param).read_text(encoding="utf-8")


def test_only_known_tags_all_closed(html):
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert page.stack == []
    assert len(page.ids) == len(set(page.ids))


def test_no_script_and_nothing_is_loaded(html):
    page = Page(html)
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"src", "srcset", "action", "formaction", "data", "xlink:href"}, (tag, name)
            if name == "href":
                assert re.fullmatch(r"#[a-z-]+", value), value
            assert "url(" not in (value or "") or re.fullmatch(r"url\(#[\w-]+\)", value), value
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_forbids_what_is_not_there(html):
    policies = [a["content"] for t, a in Page(html).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert html.index("Content-Security-Policy") < html.index("<style>")


def test_model_output_is_text(html, study):
    texts = Page(html).texts
    shown = {visible(text) for text in HOSTILE}
    seen = [text for text in shown if any(text in part for part in texts)]
    assert len(seen) >= 4, "the fixture must bring hostile answers into the report"
    assert "49" not in [text.strip() for text in texts if "7*7" in text]
    for raw in ("\x00", "\x07", "\x1b", "\u202e", "\u2028", "\u0085"):
        assert raw not in html


def test_long_texts_are_shortened_and_the_whole_is_there(study):
    report = build_report(study)
    long = [
        row.completion
        for part in report.directions
        for item in part.shown
        for row in (item.first, item.second)
        if len(row.completion) > 3000
    ]
    if long:
        html = to_html(report)
        assert f"{len(long[0]) - 600:,} characters left out" in html
        assert visible(long[0]) in html


def test_every_direction_counts_all_and_shows_few(study):
    report = build_report(study)
    assert report.directions
    assert all(len(part.shown) <= 10 and len(part.shown) <= part.count for part in report.directions)
    assert any(part.count > 0 for part in report.directions)


def test_both_languages_say_the_verdict(study):
    english, japanese = (to_html(build_report(study, language=lang)) for lang in ("en", "ja"))
    assert '<html lang="en">' in english
    assert "Recommendation" in english
    assert '<html lang="ja">' in japanese
    assert "結論" in japanese
    assert "Recommendation" not in japanese


def test_two_writings_differ_in_nothing_but_the_date(study):
    strip = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d")
    first, second = (strip.sub("", write_report(study).read_text(encoding="utf-8")) for _ in range(2))
    assert first == second


def test_every_page_has_the_same_head():
    templates = files("tenbin") / "templates"
    whole = [
        t.name for t in templates.iterdir() if t.name.endswith(".html") and "<head>" in t.read_text("utf-8")
    ]
    assert whole == ["page.html"]
