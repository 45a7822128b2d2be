import shutil
import subprocess

import pytest
from tests.report.studies import make_study

from tenbin.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_report_opens_without_a_complaint(tmp_path, language):
    page = write_report(make_study(tmp_path / "study", n=60), language=language)
    found = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in found.stderr.splitlines() if "CONSOLE" in line or "Refused" in line]
    assert complaints == []
    assert "川の音で目が覚める朝" in found.stdout
    assert ("結論" in found.stdout) == (language == "ja")
    assert "<script" not in found.stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in found.stdout
