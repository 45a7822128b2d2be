import json
import shutil
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor

from tenbin.errors import ModelError
from tenbin.models.tokenizer import PROBES, load_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "tokenizers"
SAMPLES = (
    *PROBES,
    "  lead",
    "",
    " ",
    "a\n\n\n\tb",
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
    "🇯🇵🏯 100% ☕️",
    "ｶﾞｷﾞｸﾞ㍻㌔",
)
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared tokenizers are not here")


@needs_shared
def test_llama_2_is_sentencepieces_own():
    tokenizer = load_tokenizer(SHARED / "llama-2")
    reference = SentencePieceProcessor(model_file=str(SHARED / "llama-2" / "tokenizer.model"))
    assert len(tokenizer) == 32000
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    for text in SAMPLES:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == reference.encode(text), text
        ids = tokenizer(text)["input_ids"]
        assert ids == [1, *reference.encode(text)]
        assert tokenizer.decode(ids, skip_special_tokens=True) == reference.decode(reference.encode(text))


@needs_shared
def test_llama_2_on_many_lines_of_random_text():
    tokenizer = load_tokenizer(SHARED / "llama-2")
    reference = SentencePieceProcessor(model_file=str(SHARED / "llama-2" / "tokenizer.model"))
    import random

    chance = random.Random(0)
    alphabet = "あいうえおアイウ日本語東京都ー。、「」 \n\tabcxyzABC012 !?é😀漢𠮷  　"
    for _ in range(300):
        text = "".join(chance.choices(alphabet, k=chance.randint(1, 60)))
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == reference.encode(text), text


@needs_shared
def test_llm_jp_gives_sentences_back():
    tokenizer = load_tokenizer(SHARED / "llm-jp-v2.1")
    assert len(tokenizer) == 50570
    for text in SAMPLES:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


@needs_shared
def test_a_unigram_model_that_cannot_be_rebuilt_is_refused(tmp_path):
    shutil.copy(SHARED / "llm-jp-v2.1" / "sentencepiece.model", tmp_path / "tokenizer.model")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_no_tokenizer(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer in it"):
        load_tokenizer(tmp_path)


def test_own_code_is_never_run(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.T", None]}})
    )
    (tmp_path / "evil.py").write_text("raise SystemExit")
    with pytest.raises(ModelError, match="never runs"):
        load_tokenizer(tmp_path)


def test_a_broken_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "tokenizer.model")
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(tmp_path)
