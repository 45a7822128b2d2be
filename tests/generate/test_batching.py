"""Greedy answers against transformers' own, however prompts are shared, cut, batched and admitted."""

import random

import pytest
import torch
from tests.decoder.exact import OTHERS, exact_norms, other_model, with_adapters
from tests.models.tiny import FAMILIES, tiny_model

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.reader import Reader
from tenbin.errors import ModelError
from tenbin.generate.batching import BatchGenerator, Request
from tenbin.models.lora import activate
from tenbin.models.shape import FAMILY_OF

NEW = 12
HEADER = tuple(random.Random(5).choices(range(3, 97), k=34))  # long enough to be shared
LONG = {"max_position_embeddings": 256}


def tiny(family, dtype=torch.float64, window=None):
    changes = {"n_positions": 256} if family == "gpt2" else LONG
    changes = changes | {"tie_word_embeddings": False}  # a tied model repeats the last token for ever
    if window is not None:
        changes = changes | {"sliding_window": window}
    model = tiny_model(family, dtype, **changes)
    return exact_norms(model) if dtype == torch.float64 else model


def random_ids(length, seed):
    return tuple(random.Random(seed).choices(range(3, 97), k=length))


def plain_prompts():
    return [random_ids(length, seed) for seed, length in enumerate((7, 1, 3, 21, 40, 12, 60, 2, 33))]


def shared_prompts():
    """Two passages behind one header, questions about each, one twice, and two that share nothing."""
    passages = [HEADER + random_ids(37, 100), HEADER + random_ids(50, 101)]
    found = [passages[i % 2] + random_ids(3 + i, i) for i in range(7)]
    return [*found, found[2], passages[1], random_ids(9, 50), random_ids(44, 51)]


def theirs(model, prompts, adapter=None, new=NEW):
    """Greedy answers by transformers, one prompt at a time, that nothing ends."""
    found = []
    with activate(model, adapter):
        for prompt in prompts:
            ids = torch.tensor([prompt])
            mask = torch.ones_like(ids)
            out = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
            found.append(tuple(out[0, len(prompt) :].tolist()))
    return found


def ended(answers, end):
    """What is left where a token ends answers: (ids, why it ends)."""
    return [(a[: a.index(end)], "stop") if end in a else (a, "length") for a in answers]


def an_end(answers):
    """The token that ends answers after the most different numbers of tokens."""
    tokens = sorted({token for answer in answers for token in answer})
    return max(tokens, key=lambda token: len({len(ids) for ids, _ in ended(answers, token)}))


def ask(
    model,
    prompts,
    *,
    cache_tokens=2000,
    new=NEW,
    adapters=None,
    stopped=None,
    end=None,
    under_way=1,
    **options,
):
    generator = BatchGenerator(
        Decoder(model), cache_tokens=cache_tokens, end_ids=() if end is None else (end,), **options
    )
    generator.under_way = under_way
    names = adapters or [None] * len(prompts)
    requests = [Request(i, p, new, a) for i, (p, a) in enumerate(zip(prompts, names, strict=True))]
    answers = list(generator.run(requests, stopped))
    assert sorted(a.index for a in answers) == list(range(len(prompts)))
    assert generator.cache_tokens == cache_tokens
    answers.sort(key=lambda answer: answer.index)
    return answers


def texts(answers):
    return [(answer.new_ids, answer.reason) for answer in answers]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("prompts", [plain_prompts, shared_prompts])
def test_greedy_equals_transformers_token_for_token(family, dtype, prompts):
    # Gemma's window is 8 tokens: most prompts are longer.
    expected = theirs(tiny(family, dtype), prompts())
    end = an_end(expected)
    expected = ended(expected, end)
    assert len({len(ids) for ids, _ in expected}) > 2, "some answers end early"
    assert texts(ask(tiny(family, dtype), prompts(), end=end)) == expected


@pytest.mark.parametrize("kind", OTHERS)
def test_relatives_answer_as_in_transformers(kind):
    """Mistral has a window in every layer; Qwen 3 norms queries and keys; one Llama has biases."""
    model, prompts = other_model(kind), [random_ids(n, n) for n in (1, 5, 9, 30, 45)]
    assert texts(ask(model, prompts)) == ended(theirs(model, prompts), None)


def test_every_known_kind_of_model_is_taken_apart():
    assert set(FAMILY_OF) == {*FAMILIES, *OTHERS}


@pytest.mark.parametrize(
    "options",
    [
        {"most_tokens": 7},
        {"most_tokens": 1},
        {"most_rows": 1},
        {"most_rows": 3},
        {"cache_tokens": 150, "most_tokens": 64},
        {"under_way": 2, "most_tokens": 40},
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_rows_and_room_do_not_change_an_answer(family, options):
    model = tiny(family, window=160 if family == "gemma3_text" else None)
    expected = ask(model, shared_prompts())
    assert texts(ask(model, shared_prompts(), **options)) == texts(expected)


def test_an_adapter_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="'other'"):
        ask(with_adapters(tiny("llama"), "a"), [(5, 6)], adapters=["other"])


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_side_by_side_answer_as_alone(family):
    model = with_adapters(tiny(family, window=160 if family == "gemma3_text" else None), "a", "b")
    prompts, names = shared_prompts() * 3, []
    for name in ("a", None, "b"):
        names += [name] * len(shared_prompts())
    found = texts(ask(model, prompts, adapters=names))
    expected = [answer for name in ("a", None, "b") for answer in theirs(model, shared_prompts(), name)]
    assert found == ended(expected, None)
    count = len(shared_prompts())
    assert len({tuple(found[i * count : (i + 1) * count]) for i in range(3)}) == 3, "they differ"


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_an_adapter_are_not_touched_by_the_only_one(family):
    model, prompts = with_adapters(tiny(family), "a"), plain_prompts() * 2
    names = ["a"] * (len(prompts) // 2) + [None] * (len(prompts) // 2)
    found = texts(ask(model, prompts, adapters=names))
    half = plain_prompts()
    assert found == ended(theirs(model, half, "a") + theirs(model, half), None)
    assert found[: len(half)] != found[len(half) :]


def test_what_can_never_fit_is_refused_by_its_numbers_and_nothing_else_is():
    prompts = [random_ids(30, 0), random_ids(20, 1), (), random_ids(19, 2)]
    found = ask(tiny("llama"), prompts, cache_tokens=31)
    assert [answer.error for answer in found] == [
        "prompt (30 tokens) and answer (12) need more than the 31 tokens there is room for",
        "prompt (20 tokens) and answer (12) need more than the 31 tokens there is room for",
        "the prompt has no token: the first token of an answer has nothing to follow",
        None,
    ]
    assert [(a.new_ids, a.reason) for a in found[:3]] == [((), "error")] * 3
    assert texts(found)[3] == ended(theirs(tiny("llama"), prompts[3:]), None)[0]


def test_a_caller_may_end_an_answer_and_leave_a_run():
    model, prompts = tiny("llama"), shared_prompts()
    whole = ask(model, prompts)
    stopped = ask(model, prompts, stopped=lambda ids: len(ids) % 5 == 0)
    assert [a.new_ids for a in stopped] == [a.new_ids[:5] for a in whole]
    assert {a.reason for a in stopped} == {"stop"}
    generator = BatchGenerator(Decoder(model), cache_tokens=200, end_ids=(), most_rows=2)
    requests = [Request(i, p, NEW) for i, p in enumerate(prompts)]
    for _ in zip(range(3), generator.run(requests), strict=False):
        pass
    again = sorted(generator.run(requests), key=lambda answer: answer.index)
    assert [a.new_ids for a in again] == [a.new_ids for a in whole]


def test_what_is_shared_is_read_once(monkeypatch):
    read = []
    inner = Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, pieces: (read.extend(pieces), inner(self, pieces))[1])
    prompts = shared_prompts()
    ask(tiny("llama"), prompts, new=1)
    passages = 34 + 37 + 50 - 1  # the second is a prompt by itself, which keeps its last token
    questions = sum(3 + i + i % 2 for i in range(7)) + 5 + 1  # each of the second passage reads that token
    assert sum(len(piece.ids) for piece in read) == passages + questions + 9 + 44
    windowed = tiny("gemma3_text", window=90)  # most of these prompts with their answers are longer
    read.clear()
    ask(windowed, prompts)
    assert any(piece.shared for piece in read)
    assert all(piece.position + len(piece.ids) <= 90 for piece in read if piece.shared)


def test_dropout_is_for_training_alone():
    model = with_adapters(tiny("llama"), "a", dropout=0.5)
    names = ["a"] * len(plain_prompts())
    found = texts(ask(model, plain_prompts(), adapters=names))
    assert found == ended(theirs(model, plain_prompts(), "a"), None)


@pytest.mark.parametrize("make", [Fp8Frozen.make])
def test_fewer_bits_answer_as_the_model_that_they_make(make):
    model = tiny("llama", torch.float32)
    decoder = Decoder(model, make)  # the model of transformers computes in 8 bits from here on
    requests = [Request(i, p, NEW) for i, p in enumerate(plain_prompts())]
    found = sorted(BatchGenerator(decoder, cache_tokens=500, end_ids=()).run(requests), key=lambda a: a.index)
    assert [a.new_ids for a in found] == theirs(model, plain_prompts())
