"""The report of a study: which system to choose, how sure that is, and everything it rests on."""

from pathlib import Path

from tenbin.report.advice import Advice, read_advice, recommendation_text
from tenbin.report.bank import article_tables
from tenbin.report.build import ReportData, build_report
from tenbin.report.compared import Compared, compare_folders, open_folders
from tenbin.report.evidence import comparable
from tenbin.report.html import inspection_html, to_html
from tenbin.report.markdown import to_markdown
from tenbin.report.paper import paper_tables
from tenbin.report.table import Table
from tenbin.report.words import Language
from tenbin.report.workbook import write_workbook
from tenbin.runs import StudyFolder, write_text

__all__ = [
    "Advice",
    "Compared",
    "ReportData",
    "Table",
    "article_tables",
    "build_report",
    "comparable",
    "compare_folders",
    "inspection_html",
    "open_folders",
    "paper_tables",
    "read_advice",
    "recommendation_text",
    "to_html",
    "to_markdown",
    "write_report",
    "write_workbook",
]


def write_report(study: StudyFolder, *, language: Language = "en") -> Path:
    """Write report.html into the study's folder, and the same as report.md.

    Returns:
        the path of report.html.

    Raises:
        StorageError: where the folder cannot be written.
    """
    report = build_report(study, language=language)
    write_text(study.path / "report.md", to_markdown(report))
    path = study.path / "report.html"
    write_text(path, to_html(report))
    return path
