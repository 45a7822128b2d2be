"""Works of a generation bench: prompts of the size of their names, and rates counted by hand."""

import json
import random

import pytest
from tests.models.tiny import CONFIGS

from tenbin.bench_generate_works import (
    ANSWER_TOKENS,
    RATES,
    GenerateWork,
    generate_work,
    is_work,
    needs_lengths,
    rates,
)
from tenbin.errors import DataError
from tenbin.models.shape import ModelShape

LENGTHS = [[20, [[5, 2], [6, 3]]], [30, [[4, 1]]], [25, [[5, 2], [5, 2], [7, 4]]]]
SHAPE = ModelShape.read({"model_type": "llama", **CONFIGS["llama"]})


@pytest.fixture
def lengths(tmp_path):
    path = tmp_path / "lengths.json"
    path.write_text(json.dumps(LENGTHS), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "known", "asks"),
    [
        ("jsquad", True, True),
        ("fewshot-2048", True, True),
        ("256x512+64", True, False),
        ("256x512", False, False),
        ("0x512+64", False, False),
        ("fewshot-0", False, False),
        ("jsquad-validation", False, False),
    ],
)
def test_names(name, known, asks):
    assert (is_work(name), needs_lengths(name)) == (known, asks)


def test_rows_have_nothing_in_common():
    work = generate_work("7x32+9", vocabulary=512)
    assert [len(ids) for ids in work.prompts] == [32] * 7
    assert (work.name, work.new_tokens, work.longest) == ("7x32+9", 9, 41)
    assert work.prompt_tokens == 7 * 32
    assert work.distinct_tokens >= 7 * 32 - 2
    assert max(map(max, work.prompts)) < 512
    assert generate_work("7x32+9", vocabulary=512) == work


def test_questions_share_their_passage(lengths):
    work = generate_work("jsquad", vocabulary=512, lengths=lengths)
    assert [len(ids) for ids in work.prompts] == [25, 26, 34, 30, 30, 32]
    assert work.new_tokens == ANSWER_TOKENS == 5
    assert work.prompts[0][:20] == work.prompts[1][:20]
    assert work.prompts[1][:20] != work.prompts[2][:20]
    assert work.distinct_tokens == pytest.approx(20 + 5 + 6 + 34 + 25 + 5 + 5 + 7, abs=2)


def test_one_block_stands_before_every_prompt(lengths):
    plain = generate_work("jsquad", vocabulary=512, lengths=lengths)
    work = generate_work("fewshot-40", vocabulary=512, lengths=lengths)
    block = work.prompts[0][:40]
    assert work.prompts == tuple((*block, *ids) for ids in plain.prompts)
    assert len(set(block)) > 20, "no token repeated over and over"
    assert work.distinct_tokens == plain.distinct_tokens + 40
    assert work.longest == plain.longest + 40


def test_the_first_questions_alone(lengths):
    whole = generate_work("jsquad", vocabulary=512, lengths=lengths)
    assert generate_work("jsquad", vocabulary=512, lengths=lengths, count=4) == whole.first(4)
    with pytest.raises(DataError, match="6 questions; 7 were asked for"):
        generate_work("jsquad", vocabulary=512, lengths=lengths, count=7)


def test_distinct_tokens_are_the_nodes_of_the_tree_of_prompts():
    draw = random.Random(0)
    prompts = tuple(tuple(draw.randrange(3) for _ in range(draw.randrange(1, 9))) for _ in range(60))
    nodes = {ids[:end] for ids in prompts for end in range(1, len(ids) + 1)}
    work = GenerateWork(name="any", prompts=prompts, new_tokens=1)
    assert len(set(prompts)) < len(prompts), "some twice"
    assert work.distinct_tokens == len(nodes)


def test_rates_count_what_is_shared_once():
    prompts = ((5, 6, 7), (5, 6, 8), (9,))
    work = GenerateWork(name="any", prompts=prompts, new_tokens=2)
    found = rates(work, SHAPE, 0.5, matrix_rate=1e7)
    assert tuple(found) == RATES
    assert (found["examples_per_s"], found["tokens_per_s"]) == (6.0, 12.0)
    assert (found["prompt_tokens_per_s"], found["seconds"]) == (14, 0.5)
    # Two blocks: q and o 32 x 32, k and v 16 x 32, gate, up and down 48 x 32; head 97 x 32 for new tokens.
    blocks = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32)
    context = (15 + 15 + 6) / 13
    tokens, new = 3 + 1 + 1 + 6, 6
    expected = 2 * (tokens * blocks + new * 97 * 32) + tokens * 2 * 4 * 32 * context
    assert found["mfu"] == pytest.approx(expected / 0.5 / 1e7, abs=6e-4)
    assert found["mfu"] > 0.05
