import pytest

from tenbin.errors import ConfigError
from tenbin.tasks.metrics import METRICS, find_metric, list_metrics
from tenbin.types import Example


def score(metric: str, answer: str | None, *references: str) -> float:
    return METRICS[metric].score(answer, Example(id="x", inputs={}, references=references))


@pytest.mark.parametrize("metric", [m for m in METRICS if m != "points"])
def test_every_metric_gives_1_to_the_reference_and_0_to_unparsed(metric):
    text = "大統領は今日、日本への訪問を延期した"
    assert score(metric, text, text) == pytest.approx(1.0, abs=1e-8)
    assert score(metric, None, text) == 0.0
    assert score(metric, "xyz", text) == 0.0


@pytest.mark.parametrize(
    "metric", ["jsquad_f1", "jpstable_f1", "similarity_flexeval", "rouge1", "rougeL_char"]
)
def test_the_best_reference_counts(metric):
    assert score(metric, "北の町", "南の島", "北の町") == 1.0


@pytest.mark.parametrize(
    "metric", ["similarity_llmjp", "exact_match_llmjp", "rouge1_flexeval", "bleu", "set_f1"]
)
def test_metrics_whose_source_looks_at_the_first_reference_only(metric):
    assert score(metric, "北の町です", "南の島", "北の町です") < 1.0


def test_jsquad_f1_by_hand():
    assert score("jsquad_f1", "2021年", "令和3年", "2021年（令和3年）") == pytest.approx(10 / 16)


def test_empty_references_do_not_count_in_jsquad():
    assert score("jsquad_em", "。", "。") == 1.0
    assert score("jsquad_em", "", "。", "傘") == 0.0


def test_the_paper_row_trims_the_answer_only():
    assert score("jsquad_em", "富士山が", "富士山") == 0.0
    assert score("jsquad_em_paper", "富士山が", "富士山") == 1.0
    assert score("jsquad_em_paper", "いろは", "いろは") == 0.0


def test_char_f1_of_peers_is_a_ratio():
    assert score("similarity_flexeval", "京都府東京都", "東京都京都府") == 0.67
    assert score("similarity_llmjp_difflib", "京都府東京都", "東京都京都府") == 0.5


@pytest.mark.parametrize(
    ("grade", "expected"), [("1", 1.0), ("０．５", 0.5), ("△", 0.5), ("○", 1.0), ("×", 0.0)]
)
def test_points_read_grades(grade, expected):
    assert score("points", grade, "x") == expected


def test_points_take_nothing_else_for_zero():
    with pytest.raises(ValueError, match="not a grade"):
        score("points", "2", "x")


def test_definitions_carry_tokenizer_and_dictionary():
    rows = {row.id: row.definition for row in list_metrics()}
    assert "ipadic 1.0.0" in rows["rouge1"]
    assert "unidic-lite 1.0.8" in rows["rouge1_xlsum"]
    assert len(set(rows.values())) == len(rows)


def test_an_unknown_metric_gets_a_suggestion():
    with pytest.raises(ConfigError, match="rouge1"):
        find_metric("roug1")
    with pytest.raises(ConfigError, match="metrics list"):
        find_metric("zzzzzz")
