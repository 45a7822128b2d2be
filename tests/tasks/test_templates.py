"""Templates: the paper's, character for character, and what a template may be."""

import pytest

from tenbin.errors import ConfigError
from tenbin.tasks import classification, reading, summarization
from tenbin.tasks.base import PromptTemplate


def test_the_papers_classification():
    assert classification.PAPER.prompt({"text": "T"}) == "### Instruction: T ### Response: "
    assert classification.PAPER.suffix == ""


def test_the_papers_reading_with_its_four_number_signs():
    prompt = reading.PAPER.prompt({"passage": "P", "question": "Q"})
    assert prompt == "### Instruction: Context: P Question: Q #### Response: "


def test_the_papers_summarization_with_its_quotes():
    prompt = summarization.PAPER.prompt({"title": "見出", "text": "本文"})
    assert prompt == (
        "以下のニュース記事をお読みください。 \"'見出し:見出\n"
        "本文\"' このニュース記事を要約してください。\n"
        "要約は以下の通りです: \"'"
    )
    assert summarization.PAPER.suffix == "\"'"


def test_values_are_never_read_as_templates():
    template = PromptTemplate("$text と $$text => $response")
    assert template.prompt({"text": "$response {text} $$"}) == "$response {text} $$ と $text => "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$question $response", "does not use \\$passage"),
        ("$passage $question $titel $response", "uses \\$titel"),
        ("$passage $question", "\\$response 0 times"),
        ("$passage $question $response $response", "\\$response 2 times"),
        ("$passage $response $question", "a field after \\$response"),
    ],
)
def test_templates_that_cannot_be_used(text, words):
    with pytest.raises(ConfigError, match=words):
        PromptTemplate(text).check(("passage", "question"), "study.toml: prompt.template")


def test_the_fingerprint_follows_the_text():
    assert PromptTemplate("a $response").fingerprint != PromptTemplate("a  $response").fingerprint
