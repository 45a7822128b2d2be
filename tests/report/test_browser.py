import pytest
from tests.report.chromium import MARKS, opened
from tests.report.studies import make_study

from tenbin.report import write_report

pytestmark = MARKS


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_report_opens_without_a_complaint(tmp_path, language):
    page = write_report(make_study(tmp_path / "study", n=60), language=language)
    text, complaints = opened(page, tmp_path / "profile")
    assert complaints == []
    assert "川の音で目が覚める朝" in text
    assert ("結論" in text) == (language == "ja")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
