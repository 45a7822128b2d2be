"""The part on RAG fitness: two systems, in both languages; what does not fit, what was not asked."""

import pytest
from tests.rag.questions import PHRASES, TASK, Reader, contexts, said
from tests.report.studies import make_study

from tenbin.rag.contexts import Impossible
from tenbin.rag.measure import ask, sum_up
from tenbin.rag.store import RagFolder
from tenbin.report import build_report, to_html, to_markdown, write_workbook
from tenbin.report.rag import rag_text

SETTINGS = {"template": "$passage <b>$question</b> $response", "distractors": "near", "num_passages": 39}
LONG = "its own passage has 600 characters"
NOT_ASKED = (Impossible(example_id="z", length=300, condition="present", reason=LONG),)


class Short(Reader):
    """Takes no long prompts."""

    def generate(self, prompts, config):
        for index, completion in super().generate(prompts, config):
            long = len(prompts[index][0].content) > 700
            yield index, said("", error="too <long>") if long else completion


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("rag"))
    made, _ = contexts()
    folder = RagFolder(study, SETTINGS)
    folder.start()
    for run, reader in zip(study.runs()[:2], (Reader(sight=400), Short()), strict=True):
        rows = ask(TASK, "passage", made, reader, absent_phrases=PHRASES)
        result = sum_up(TASK, rows, NOT_ASKED, system=run.spec.label, level=0.95, settings=SETTINGS)
        folder.finish(run.path.name, result)
    return study


@pytest.fixture(scope="module")
def english(study):
    return build_report(study, language="en")


def test_charts_and_tables(english):
    (found,) = [part for part in english.parts if part.id == "rag"]
    assert [chart.id for chart in found.charts] == ["rag-curve", "rag-heat", "rag-absent"]
    assert [table.id for table in found.tables] == [
        *("rag-length", "rag-depth", "rag-absent", "rag-impossible", "rag-errors")
    ]
    rows = {(row[0].text, row[1].text): [cell.text for cell in row] for row in found.tables[0].rows}
    names = sorted({name for name, _ in rows})
    assert len(names) == 2
    assert {length for _, length in rows} == {"its passage alone", "300", "1,000"}
    errors = [row for row in rows.values() if row[-1] != "0"]
    assert [(row[1], row[2], row[-1]) for row in errors] == [("1,000", "no completion was got", "15")]
    assert found.tables[3].rows[0][3].text == "its own passage has 600 characters"
    assert found.tables[4].rows[0][2].text == "too <long>"


def test_nothing_of_the_data_is_markup(english):
    page = to_html(english)
    assert "too &lt;long&gt;" in page
    assert "<b>$question" not in page
    assert page.count('id="rag"') == 1


def test_both_languages(study, english, tmp_path):
    japanese = build_report(study, language="ja")
    assert "根拠の段落のみ" in to_markdown(japanese)
    assert "its passage alone" not in to_markdown(japanese)
    assert "its passage alone" in to_markdown(english)
    for report in (english, japanese):
        assert write_workbook(report, tmp_path / f"{report.words.language}.xlsx").exists()


def test_the_terminal_gets_the_tables(study, tmp_path):
    assert "| 1,000 |" in rag_text(study)
    assert rag_text(make_study(tmp_path)) == ""
