"""Prompt and answer are encoded so that the boundary between them cannot shift."""

import pytest
from tests.real_parts import encoders

from tenbin.models.encode import Encoder
from tenbin.tasks import classification, reading, summarization
from tenbin.tasks.base import PromptTemplate
from tenbin.types import Example, Message

CATEGORIES = ("positive", "negative")
CLASSIFICATION = {"text": "朝食の焼き魚が美味しかったです。Wi-Fiは少し遅い…。"}
READING = {
    "passage": "松葉旅館は昭和二十八年（1953年）に開業した。露天風呂は二〇一一年に増築。",
    "question": "松葉旅館はいつ開業した？",
}
SUMMARY = {"title": "大浴場の工事", "text": "十月三日から大浴場を修理します。\n期間中は貸切風呂を使えます。"}
CASES = [
    (classification.task(classification.PAPER, CATEGORIES, None), CLASSIFICATION, "negative"),
    (classification.task(classification.plain(CATEGORIES), CATEGORIES, None), CLASSIFICATION, "positive"),
    (
        classification.task(classification.plain(("良い", "悪い")), ("良い", "悪い"), None),
        CLASSIFICATION,
        "良い",
    ),
    (reading.task(reading.PAPER, None), READING, "昭和二十八年"),
    (reading.task(reading.PLAIN, None), READING, "1953年"),
    (summarization.task(summarization.PAPER, None), SUMMARY, "大浴場を修理するため、貸切風呂を使う。"),
    (summarization.task(summarization.PLAIN, None), SUMMARY, "十月に大浴場を工事する。"),
    (
        classification.task(PromptTemplate("$text => $response."), CATEGORIES, None),
        CLASSIFICATION,
        "positive",
    ),
]


@pytest.mark.parametrize("encoder", encoders())
@pytest.mark.parametrize(("task", "inputs", "reference"), CASES)
def test_training_and_generation_meet_the_same_prompt(encoder, task, inputs, reference):
    example = Example(id="1", inputs=inputs, references=(reference,))
    encoded = encoder.example(task, example)
    assert encoded.prompt_ids == encoder.prompt(task.prompt(example))[0]


@pytest.mark.parametrize("encoder", encoders())
def test_prompts_are_encoded_together_as_each_alone(encoder):
    asked = [
        task.prompt(Example(id="1", inputs=inputs, references=(reference,)))
        for task, inputs, reference in CASES
    ]
    asked += [[Message("user", "終わりに空白  ")], [Message("user", "あ"), Message("user", "い ")]]
    found = encoder.prompts(asked)
    assert found == [encoder.prompt(messages) for messages in asked]
    assert [lead for _, lead in found[-2:]] == ["  ", " "]
    assert len({ids for ids, _ in found}) == len(asked)
    assert encoder.prompts([]) == []


@pytest.mark.parametrize("encoder", encoders())
@pytest.mark.parametrize(("task", "inputs", "reference"), CASES)
def test_a_model_that_learnt_the_target_is_parsed_as_the_reference(encoder, task, inputs, reference):
    example = Example(id="1", inputs=inputs, references=(reference,))
    target = encoder.example(task, example).target_ids
    assert target[-1] == encoder.eos_id
    assert encoder.eos_id not in target[:-1]
    said = encoder.text(target[:-1])
    assert task.parse(said) == reference
    assert said.strip() == task.target(example)


@pytest.mark.parametrize("encoder", encoders())
@pytest.mark.parametrize(
    "answer", ["positive", "negative", "良い", "東京", "1953年", "「松」", "Ａ１", "ﾎﾃﾙ", "a b"]
)
def test_a_continuation_gets_no_space_mark(encoder, answer):
    assert (
        encoder.text(encoder.continuation(answer))[:1]
        == encoder.text(encoder.continuation(answer)).lstrip()[:1]
    )
    assert not encoder.tokenizer.convert_ids_to_tokens(encoder.continuation(answer)[0]).startswith(("▁", "Ġ"))


@pytest.mark.parametrize("encoder", encoders())
def test_a_space_before_the_answer_is_kept_as_running_text(encoder):
    assert encoder.text(encoder.continuation(" positive")) == " positive"


def test_the_trap_is_real_for_llama2():
    """Searching the whole text's ids for the marker's ids finds nothing: what tenbin does not do."""
    llama = next((p.values[0] for p in encoders() if p.id == "llama-2"), None)
    if llama is None:
        pytest.skip("../shared/tokenizers is not here")
    ids = llama.tokenizer("### Instruction: 良い\n### Response: positive", add_special_tokens=False)[
        "input_ids"
    ]
    marker = llama.tokenizer("### Response:", add_special_tokens=False)["input_ids"]
    found = any(ids[i : i + len(marker)] == marker for i in range(len(ids)))
    assert not found


@pytest.mark.parametrize("encoder", encoders())
def test_cutting_takes_the_end_of_the_longest_input_and_counts(encoder):
    task = reading.task(reading.PLAIN, None)
    example = Example(id="1", inputs={**READING, "passage": READING["passage"] * 20}, references=("1953年",))
    limit = 150
    shorter, cut = encoder.fit(task, example, limit, target=True)
    assert len(encoder.example(task, shorter)) <= limit
    assert shorter.inputs["question"] == READING["question"]
    assert example.inputs["passage"].startswith(shorter.inputs["passage"])
    assert cut == len(example.inputs["passage"]) - len(shorter.inputs["passage"]) > 0
    one_more = {**shorter.inputs, "passage": example.inputs["passage"][: len(shorter.inputs["passage"]) + 8]}
    assert len(encoder.example(task, Example(id="1", inputs=one_more, references=("1953年",)))) > limit
    assert encoder.fit(task, shorter, limit, target=True) == (shorter, 0)


def test_a_tokenizer_without_an_end_is_refused():
    from tenbin.errors import ModelError

    class Endless:
        eos_token_id = None
        name_or_path = "endless"

    with pytest.raises(ModelError, match="end-of-sequence"):
        Encoder(Endless())
