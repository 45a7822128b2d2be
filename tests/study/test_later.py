"""A generator that is opened when it is first asked."""

import pytest
from tests.rag.questions import said
from tests.study.studies import Told

from tenbin.errors import ModelError, Problem
from tenbin.study.later import Later
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
