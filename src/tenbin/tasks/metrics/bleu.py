"""BLEU through sacreBLEU (extra `bleu`) on IPADIC words."""

from functools import lru_cache
from importlib import import_module
from typing import Any

from tenbin.errors import MissingExtra, Problem
from tenbin.tasks.base import Metric
from tenbin.tasks.metrics.answers import first_only
from tenbin.tasks.words import dictionary_version, package_version, segmenter


@lru_cache(maxsize=1)
def _scorer() -> Any:  # noqa: ANN401 -- sacreBLEU is optional: its types may not be there
    try:
        metrics = import_module("sacrebleu.metrics")
    except ImportError as error:
        raise MissingExtra(
            Problem(where="metrics", found="BLEU needs sacreBLEU", remedy='pip install "tenbin[bleu]"')
        ) from error
    # The words are ours: sacreBLEU's own `ja-mecab` is the same IPADIC through another binding. force: it
    # would warn that text which ends in " ." looks tokenized, which it is.
    return metrics.BLEU(tokenize="none", effective_order=True, force=True)


def bleu(answer: str, reference: str) -> float:
    """BLEU-4 of one pair in [0, 1]: effective order, exponential smoothing, brevity penalty; first reference.

    Source: Nejumi's bleu_ja and flexeval's sentence score (which is times 100). 天気がいい against
    今日は天気がいい。: all n-grams right, 3 words for 6: exp(1 - 6/3) = 0.3679.
    """
    parse = segmenter("ipadic")
    mine, theirs = (parse(text.strip()).strip() for text in (answer, reference))
    return float(_scorer().sentence_score(mine, [theirs]).score) / 100


def bleu_metrics() -> tuple[Metric, ...]:
    """All metrics of this file."""
    return (
        Metric(
            id="bleu",
            name="BLEU",
            definition="sentence BLEU-4, effective order, smooth exp, sacreBLEU "
            f"{package_version('sacrebleu')}, mean over examples, first reference; "
            f"{dictionary_version('ipadic')}",
            score=first_only(bleu),
        ),
    )
