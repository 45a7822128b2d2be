"""Our greedy decoding against transformers' own, batched, padded and stopped early."""

import pytest
import torch
from tests.models.tiny import FAMILIES, tiny_model

from tenbin.generate.local import LocalGenerator
from tenbin.types import GenerationConfig, Message


class LetterTokenizer:
    """Every character is a token; id 2 ends."""

    eos_token_id = 2
    name_or_path = "letters"
    chat_template = None

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [3 + (ord(c) * 7) % 94 for c in text]}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(0x3041 + i - 3) if i >= 3 else "" for i in ids)


def generator(family, batch_size, dtype=torch.float64, max_positions=None):
    from tenbin.models.encode import Encoder

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


def test_a_prompt_that_alone_takes_too_much_memory_is_an_error(monkeypatch):
    ours = generator("llama", 1)
    forward = ours._next_ids

    def small(ids, *rest):
        if ids.shape[1] > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(ids, *rest)

    monkeypatch.setattr(ours, "_next_ids", small)
    found = dict(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=2)))
    assert found[3].error == "prompt (11 tokens) needs more memory than there is, or than the cap allows"
    assert [i for i in found if found[i].error] == [3]
    ours.batch_size = 3
    with pytest.raises(torch.OutOfMemoryError):
        list(ours.generate(PROMPTS, GenerationConfig(max_new_tokens=2)))
