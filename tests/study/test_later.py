"""A generator that is opened when it is first asked."""

import pytest
from tests.rag.questions import said
from tests.study.studies import Told

from tenbin.config import ModelConfig
from tenbin.errors import ModelError, Problem
from tenbin.generate.hosted import open_hosted, read_prices
from tenbin.study.later import Later, calls_line
from tenbin.types import GenerationConfig, Message

CONFIG = GenerationConfig(max_new_tokens=1)
PROMPT = [Message("user", "?")]


class Echo:
    model_id = "echo"

    def generate(self, prompts, config):
        yield from ((index, said("ok")) for index in range(len(prompts)))


def test_nothing_is_opened_where_nothing_is_asked():
    def refuse():
        raise ModelError(Problem(where="x", found="no key", remedy="give one"))

    later = Later("echo", refuse, Told())
    assert later.model_id == "echo"
    assert list(later.generate([], CONFIG)) == []
    with pytest.raises(ModelError, match="no key"):
        list(later.generate([PROMPT], CONFIG))


def test_it_is_opened_once():
    opened = []

    def open_it():
        opened.append(1)
        return Echo()

    later = Later("echo", open_it, Told())
    assert len(list(later.generate([PROMPT, PROMPT], CONFIG))) == 2
    assert len(list(later.generate([PROMPT], CONFIG))) == 1
    assert opened == [1]


def test_what_is_said_counts_every_question_once(tmp_path):
    model = ModelConfig.model_validate({"source": "http://127.0.0.1:9/v1#judge", "hosted": {"repeats": 5}})
    generator = open_hosted(model, tmp_path, prices=read_prices())
    other = [Message("user", "!")]
    assert calls_line(generator, [PROMPT, other], CONFIG).startswith("judge: 2 calls, about")
