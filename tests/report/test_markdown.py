import re

from tests.report.studies import HOSTILE, make_study

from tenbin.report import build_report, to_markdown, write_report
from tenbin.report.markdown import fenced


def test_the_fence_is_longer_than_any_inside():
    assert fenced("a\n````\nb") == "`````text\na\n````\nb\n`````"


def test_model_output_stays_in_its_block(tmp_path):
    text = to_markdown(build_report(make_study(tmp_path, n=60)))
    fence, outside = None, []
    for line in text.splitlines():
        if fence is None and line.startswith("```"):
            fence = line.removesuffix("text")
        elif line == fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None
    assert not any(re.search(r"(?<!\\)[<`]", line) for line in outside)
    assert "## Recommendation" in outside
    assert "## Examples that differ" in outside


def test_it_is_written_beside_the_page(tmp_path):
    write_report(make_study(tmp_path, n=30), language="ja")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## 結論" in text
    assert not any(bad in text for bad in ("\x00", "\x1b", HOSTILE[6]))
