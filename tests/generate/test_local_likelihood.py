"""Likelihoods of given answers against a plain forward of prompt and answer, one at a time."""

import pytest
import torch
from tests.decoder.exact import exact_model, with_adapters
from tests.generate.test_local import LetterTokenizer
from tests.models.tiny import FAMILIES, tiny_model
from tests.real_parts import real_model

from tenbin.decoder.decoder import Decoder
from tenbin.errors import ModelError
from tenbin.generate.local import LocalGenerator
from tenbin.models.encode import Encoder
from tenbin.models.lora import activate
from tenbin.types import Message


def local(model, encoder=None, *, batch_size=8, batch_tokens=1000, max_positions=None):
    return LocalGenerator(
        model,
        encoder or Encoder(LetterTokenizer()),
        model_id="tiny",
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        max_positions=max_positions,
    )


def tiny(family):
    return exact_model(family)


def asked(text, *answers):
    return [([Message("user", text)], answer) for answer in answers]


PAIRS = [
    *asked("いろはにほへと", "ちりぬるを", "ち", "わかよたれそ"),
    *asked("うゐのおくやまけふこえて", "あさきゆめみし", "ゑ"),
    *asked("い", "ろ"),
    *asked("いろはにほへと", "つ", "ちりぬるを"),  # comes again, and one pair is the same
]


def plain(model, encoder, prompt, answer):
    """Σ log P(token), from one forward of the whole text by transformers' own model."""
    prompt_ids, lead = encoder.prompt(prompt)
    answer_ids = encoder.continuation(lead + answer)
    ids = torch.tensor([[*prompt_ids, *answer_ids]])
    with torch.inference_mode():
        found = model(ids).logits[0, len(prompt_ids) - 1 : -1].double().log_softmax(-1)
    return float(found.gather(1, torch.tensor(answer_ids)[:, None]).sum())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batched_with_a_shared_prompt_equals_one_at_a_time(family, batch_size):
    # Gemma's window is 8 tokens here: prompts and answers pass it.
    ours = local(tiny(family), batch_size=batch_size)
    reference = exact_model(family)
    expected = [plain(reference, ours.encoder, *pair) for pair in PAIRS]
    assert list(ours.loglikelihood(PAIRS)) == pytest.approx(expected, abs=1e-9)


def test_an_adapter_is_part_of_the_probability():
    model, reference = (with_adapters(tiny("llama"), "a", "b") for _ in range(2))
    ours = local(model)
    base = list(ours.loglikelihood(PAIRS))
    with activate(model, "b"), activate(reference, "b"):
        expected = [plain(reference, ours.encoder, *pair) for pair in PAIRS]
        assert list(ours.loglikelihood(PAIRS)) == pytest.approx(expected, abs=1e-9)
    assert base != pytest.approx(expected, abs=1e-3)
    assert list(ours.loglikelihood(PAIRS)) == base


def test_capped_logits_are_refused():
    model = tiny("gemma3_text")
    model.config.final_logit_softcapping = 0.7
    with pytest.raises(ModelError, match="capped logits"):
        local(model)


def counted(monkeypatch):
    """Tokens of every pack."""
    read = []
    losses = Decoder.losses

    def count(self, batch, *rest, **options):
        read.append(batch.num_tokens)
        return losses(self, batch, *rest, **options)

    monkeypatch.setattr(Decoder, "losses", count)
    return read


def test_a_prompt_is_computed_once_for_all_its_answers(monkeypatch):
    read = counted(monkeypatch)
    list(local(tiny("llama")).loglikelihood(asked("いろはにほへと", "は", "に", "ほへ", "とち")))
    assert read == [6 + 1 + 1 + 2 + 2]  # the prompt less its last token; that one, and all but each last


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_what_takes_too_much_memory_is_computed_in_parts(monkeypatch, error):
    ours = local(tiny("llama"))
    expected = dict(ours.answer_likelihoods(PAIRS))
    losses = Decoder.losses

    def small(self, batch, *rest, **options):
        if batch.num_tokens > 13:
            raise error("CUDA error: out of memory")
        return losses(self, batch, *rest, **options)

    monkeypatch.setattr(Decoder, "losses", small)
    found = dict(ours.answer_likelihoods(PAIRS))
    lost = [i for i in found if found[i].error]
    assert lost == [3]  # twelve tokens and seven
    assert found[3].error == "prompt (12 tokens) and answer need more memory than there is"
    for i in set(found) - {3}:
        assert found[i].nats == pytest.approx(expected[i].nats, abs=1e-9)


def test_another_error_is_not_taken_for_too_little_memory(monkeypatch):
    def wrong(self, batch, *rest, **options):
        raise RuntimeError("an index out of range")

    monkeypatch.setattr(Decoder, "losses", wrong)
    with pytest.raises(RuntimeError, match="index"):
        dict(local(tiny("llama")).answer_likelihoods(PAIRS))


def test_all_one_token_answers_make_a_distribution():
    letters = [chr(c) for c in range(0x3041, 0x3041 + 94)]
    ids = {Encoder(LetterTokenizer()).continuation(letter) for letter in letters}
    assert len(ids) == 94
    found = torch.tensor(list(local(tiny("gpt2"), batch_size=100).loglikelihood(asked("いろは", *letters))))
    with torch.inference_mode():
        logits = tiny_model("gpt2", torch.float64)(
            torch.tensor(LetterTokenizer()(["いろは"])["input_ids"])
        ).logits
    others = logits[0, -1].softmax(-1)[:3].sum()
    assert float(found.exp().sum() + others) == pytest.approx(1)


def test_an_empty_answer_is_certain():
    assert list(local(tiny("llama")).loglikelihood(asked("いろは", ""))) == [0.0]


def test_what_does_not_fit_is_said_of_each_pair():
    ours = local(tiny("llama"), max_positions=12)
    pairs = [*asked("いろはにほへと", "ち", "ちりぬるをわ"), *asked("わかよたれそつねならむ", "うゐ")]
    found = dict(ours.answer_likelihoods(pairs))
    assert found[0].error is None
    assert found[0].nats is not None
    assert found[1].nats is None
    assert found[1].error == "prompt (7 tokens) and answer (6) pass the model's 12 positions"
    with pytest.raises(ModelError) as raised:
        list(ours.loglikelihood(pairs))
    assert [problem.where for problem in raised.value.problems] == ["pair 1", "pair 2"]


def test_nothing_asked_nothing_given():
    assert list(local(tiny("llama")).loglikelihood([])) == []


@pytest.mark.model
def test_the_real_model_gives_what_transformers_gives():
    from tenbin.models.loading import load_model
    from tenbin.models.tokenizer import load_tokenizer

    source = real_model()
    encoder = Encoder(load_tokenizer(source.tokenizer))
    loaded = load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    pairs = [
        *asked("日本の首都は", "東京です。", "大阪です。", "京都"),
        *asked(
            "次の文の感情を答えてください。\n文：料理がとてもおいしかった。\n感情： ",
            "ポジティブ",
            "ネガティブ",
        ),
    ]
    found = list(local(loaded.model, encoder).loglikelihood(pairs))
    loaded.model.set_attn_implementation("eager")  # another attention, no cache, no batch
    expected = [plain(loaded.model, encoder, *pair) for pair in pairs]
    assert found == pytest.approx(expected, abs=1e-3)
    assert found[0] > found[1]
