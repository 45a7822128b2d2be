"""Our greedy decoding against transformers' own, batched, padded and stopped early."""

import pytest
import torch
from tests.decoder.exact import with_adapters
from tests.models.tiny import FAMILIES, tiny_model

from tenbin.config import LoraConfig
from tenbin.decoder.reader import Reader
from tenbin.generate.batching import BatchGenerator
from tenbin.generate.local import LocalGenerator
from tenbin.models.encode import Encoder
from tenbin.models.lora import activate, add_adapter, remove_adapter, trainable
from tenbin.types import GenerationConfig, Message


class LetterTokenizer:
    """Every character is a token; id 2 ends."""

    eos_token_id = 2
    name_or_path = "letters"
    chat_template = None

    def __call__(self, texts, add_special_tokens=True):
        return {"input_ids": [[3 + (ord(c) * 7) % 94 for c in text] for text in texts]}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(0x3041 + i - 3) if i >= 3 else "" for i in ids)


def generator(family, batch_size, dtype=torch.float64, max_positions=None):
    model = tiny_model(family, dtype)
    return LocalGenerator(
        model,
        Encoder(LetterTokenizer()),
        model_id="tiny",
        batch_size=batch_size,
        batch_tokens=1000,
        max_positions=max_positions,
    )


PROMPTS = [
    [Message("user", text)]
    for text in ("いろはにほへと", "ち", "りぬるを", "わかよたれそつねならむ", "うゐの")
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_greedy_equals_transformers_token_for_token(family, batch_size):
    ours = generator(family, batch_size)
    found = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=12)))
    model = tiny_model(family, torch.float64)
    for index, prompt in enumerate(PROMPTS):
        ids = torch.tensor([ours.encoder.prompt(prompt)[0]])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, pad_token_id=0
        )
        new = out[0, ids.shape[1] :].tolist()
        ended = 2 in new
        new = new[: new.index(2)] if ended else new
        assert found[index].text == ours.encoder.text(new)
        assert found[index].output_tokens == len(new)
        assert found[index].stop_reason == ("stop" if ended else "length")
        assert found[index].input_tokens == ids.shape[1]


def test_every_prompt_is_answered_once():
    ours = generator("llama", 2)
    assert sorted(i for i, _ in ours.generate(PROMPTS, GenerationConfig(max_new_tokens=3))) == [0, 1, 2, 3, 4]


def test_the_cache_is_as_large_as_what_differs(monkeypatch):
    sizes = []
    laid_out = BatchGenerator.__init__

    def noted(self, decoder, *, cache_tokens, **options):
        sizes.append(cache_tokens)
        laid_out(self, decoder, cache_tokens=cache_tokens, **options)

    monkeypatch.setattr(BatchGenerator, "__init__", noted)
    ours = generator("llama", 8)
    alike = [[Message("user", "い" * 60 + end)] for end in ("ろ", "は", "に")]
    lengths = [len(ours.encoder.prompt(messages)[0]) for messages in alike]
    assert len(list(ours.generate(alike, GenerationConfig(max_new_tokens=2)))) == 3
    assert sizes == [sum(lengths) + 3 * 2 - 2 * 60]


def test_a_stop_text_ends_an_answer_and_is_not_part_of_it():
    ours = generator("llama", 4)
    whole = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=12)))
    text = whole[0].text
    stop = text[3]
    stopped = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=12, stop=(stop,))))[0]
    assert stopped.text == text[: text.index(stop)]
    assert stopped.stop_reason == "stop"
    assert stopped.output_tokens < whole[0].output_tokens


def test_a_prompt_that_does_not_fit_is_an_error_not_an_answer():
    ours = generator("llama", 4, max_positions=15)
    found = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=8)))
    assert found[3].stop_reason == "error"
    assert "11 tokens" in found[3].error
    assert found[1].error is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_what_takes_too_much_memory_is_read_in_pieces_or_is_an_error(monkeypatch, error):
    """A device that has memory for three tokens at once, and for none where a certain one comes."""
    ours = generator("llama", 3)
    expected = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=4)))
    read = Reader.read
    too_large = ours.encoder.prompt(PROMPTS[3])[0][0]

    def small(self, pieces):
        if sum(len(piece.ids) for piece in pieces) > 3 or any(too_large in piece.ids for piece in pieces):
            raise error("CUDA error: out of memory")
        return read(self, pieces)

    monkeypatch.setattr(Reader, "read", small)
    found = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=4)))
    assert found[3].error == "prompt (11 tokens) needs more memory than there is, or than the cap allows"
    assert [i for i in found if found[i].error] == [3]
    assert [found[i].text for i in (0, 1, 2, 4)] == [expected[i].text for i in (0, 1, 2, 4)]
    assert ours.notes[0] == "at most 5 tokens at once"


def test_a_stop_text_of_several_tokens_is_found_when_it_is_whole():
    ours = generator("llama", 4)
    text = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=12)))[0].text
    stopped = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=12, stop=(text[2:5],))))[0]
    assert stopped.text == text[: text.index(text[2:5])]
    assert stopped.output_tokens == text.index(text[2:5]) + 3


def test_the_active_adapter_answers():
    model = with_adapters(tiny_model("llama", torch.float64), "a", "b")
    ours = LocalGenerator(model, Encoder(LetterTokenizer()), model_id="tiny")
    config = GenerationConfig(max_new_tokens=12)

    def answers(name):
        with activate(model, name):
            return [completion.text for _, completion in sorted(ours.generate(PROMPTS, config))]

    found = {name: answers(name) for name in (None, "a", "b", None, "b")}
    assert len({tuple(texts) for texts in found.values()}) == 3
    for name, texts in found.items():
        alone = with_adapters(tiny_model("llama", torch.float64), "a", "b")
        with activate(alone, name):
            for prompt, text in zip(PROMPTS, texts, strict=True):
                ids = torch.tensor([ours.encoder.prompt(prompt)[0]])
                out = alone.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
                new = out[0, ids.shape[1] :].tolist()
                assert text == ours.encoder.text(new[: new.index(2)] if 2 in new else new)


@pytest.mark.parametrize("rank", [4, 2])
def test_an_adapter_read_anew_under_the_same_name_answers(rank):
    """As when the runs of a group are evaluated one after another, each adapter under the same name."""
    model = with_adapters(tiny_model("llama", torch.float64), "a", ranks=(4,))
    ours = LocalGenerator(model, Encoder(LetterTokenizer()), model_id="tiny")
    config = GenerationConfig(max_new_tokens=12)
    pairs = [(prompt, "ほ") for prompt in PROMPTS]

    def answers():
        with activate(model, "a"):
            texts = [completion.text for _, completion in sorted(ours.generate(PROMPTS, config))]
            return texts, list(ours.loglikelihood(pairs))

    first = answers()
    remove_adapter(model, "a")
    add_adapter(model, "a", LoraConfig(rank=rank, alpha=8), seed=1)
    generator = torch.Generator().manual_seed(5)
    for p in trainable(model, "a").values():
        torch.nn.init.normal_(p, std=0.3, generator=generator)
    second = answers()
    assert second != first
    ours = LocalGenerator(model, Encoder(LetterTokenizer()), model_id="tiny")
    assert second == answers()
