import subprocess
import sys

import pytest

from tenbin.errors import MissingExtra
from tenbin.tasks import words


def test_both_dictionaries_segment():
    assert words.words("今日は天気がいい。", "ipadic") == ("今日", "は", "天気", "が", "いい", "。")
    assert words.words("令和3年", "unidic-lite") == ("令和", "3", "年")


def test_the_version_names_tokenizer_and_dictionary():
    assert words.dictionary_version("ipadic").startswith("fugashi ")
    assert ", ipadic 1.0.0" in words.dictionary_version("ipadic")
    assert words.package_version("no-such-package-at-all") == "not installed"


def test_a_missing_dictionary_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "unidic_lite", None)
    words.segmenter.cache_clear()
    with pytest.raises(MissingExtra, match=r'pip install "tenbin\[xlsum\]"'):
        words.segmenter("unidic-lite")
    words.segmenter.cache_clear()


def test_importing_the_metrics_loads_no_dictionary():
    heavy = "{'fugashi', 'ipadic', 'unidic_lite', 'sacrebleu', 'neologdn', 'emoji', 'torch'}"
    code = f"import sys, tenbin.tasks.metrics as m; m.list_metrics(); print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
