from dataclasses import replace

import openpyxl
from tests.report.studies import make_study

from tenbin.report import build_report
from tenbin.report.table import Cell
from tenbin.report.workbook import write_workbook
from tenbin.runs import StudyFolder


def test_figures_are_numbers_and_texts_never_formulas(tmp_path):
    report = build_report(make_study(tmp_path / "study", n=30))
    hostile = replace(report.paper[0], rows=((Cell('=HYPERLINK("http://x")'), *report.paper[0].rows[0][1:]),))
    book = openpyxl.load_workbook(write_workbook(replace(report, paper=(hostile,)), tmp_path / "report.xlsx"))
    sheet = book["paper-classification"]
    assert (sheet["A2"].value, sheet["A2"].data_type) == ('=HYPERLINK("http://x")', "s")
    assert isinstance(sheet["C2"].value, int | float)
    assert {"systems", "metrics", "comparisons", "costs", "incomplete", "sets"} <= set(book.sheetnames)


def test_an_empty_study_has_a_sheet_too(tmp_path):
    path = write_workbook(build_report(StudyFolder(tmp_path)), tmp_path / "r.xlsx")
    assert openpyxl.load_workbook(path).sheetnames == ["empty"]
