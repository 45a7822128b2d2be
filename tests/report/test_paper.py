from pathlib import Path

import pytest
from tests.report.studies import make_study

from tenbin.report import paper_tables
from tenbin.runs import StudyFolder

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("task", ["classification", "reading", "summarization"])
@pytest.mark.parametrize("kind", ["md", "tsv"])
def test_the_papers_tables(tmp_path, task, kind):
    (table,) = paper_tables(make_study(tmp_path, task, n=60))
    text = table.to_markdown() if kind == "md" else table.to_tsv()
    assert text == (GOLDEN / f"{task}.{kind}").read_text(encoding="utf-8")


def test_table_5_has_two_figures_a_cell(tmp_path):
    (table,) = paper_tables(make_study(tmp_path, "reading", n=60))
    assert table.columns == ("Model", "base model", "lr=2e-4", "lr=5e-5", "lr=2e-5", "lr=1e-5")
    assert table.rows[0][2].text.count("/") == 1


def test_table_6_has_the_two_lengths(tmp_path):
    (table,) = paper_tables(make_study(tmp_path, "summarization", n=60))
    assert table.columns[:3] == ("Model", "train_max_len", "infer_input_max_len")
    assert [row[1].text for row in table.rows[:2]] == ["1,024", "1,700"]
    assert table.rows[2][0].text == "lead sentence"


def test_what_has_no_result_says_so(tmp_path):
    (table,) = paper_tables(make_study(tmp_path, n=60), language="ja")
    assert table.rows[0][-1].text == "中断"
    assert [cell.text for cell in table.rows[1][-2:]] == ["失敗", "未着手"]


def test_no_runs_no_table(tmp_path):
    assert paper_tables(StudyFolder(tmp_path)) == []
