"""ROUGE-1, -2 and -L for Japanese: XL-Sum's on three segmentations, and what other tools compute."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal

from tenbin.tasks.base import Metric
from tenbin.tasks.metrics.answers import best_of, first_only
from tenbin.tasks.metrics.overlap import f1, lcs_length, num_shared
from tenbin.tasks.normalize import jpstable
from tenbin.tasks.words import CACHED_TEXTS, dictionary_version, package_version, segmenter

Segmentation = Literal["ipadic", "unidic-lite", "characters"]
Tokens = tuple[str, ...]

FLEXEVAL_EPSILON = 1e-8
"""PyPI `rouge` 1.0.1 adds it to P + R, so that identical texts score 0.999999995."""


class _Cleaning(dict[int, str | None]):
    """Character table of XL-Sum's cleaning, filled as characters are met (str.translate asks it)."""

    def __missing__(self, code: int) -> str | None:
        category = unicodedata.category(chr(code))
        kept: str | None = chr(code)
        if chr(code) in "\t\n\r" or category == "Zs":
            kept = " "
        elif code == 0xFFFD or category.startswith("C"):
            kept = None
        elif category.startswith("P") or (33 <= code <= 126 and not chr(code).isalnum()):
            kept = " "
        self[code] = kept
        return kept


_CLEANING = _Cleaning()


@lru_cache(maxsize=CACHED_TEXTS)
def rouge_tokens(text: str, segmentation: Segmentation) -> Tokens:
    """Tokens as XL-Sum's scorer makes them: lower case; U+FFFD and control characters out; white space,
    ASCII symbols and Unicode punctuation (P*) split and fall away; the rest is segmented. No NFKC, no stems.

    Source: csebuetnlp/xl-sum afcd803, multilingual_rouge_scoring/tokenizers.py.

    >>> rouge_tokens("雨、雨が降る", "ipadic")
    ('雨', '雨', 'が', '降る')
    """
    pieces = text.lower().translate(_CLEANING).split()
    if segmentation == "characters":
        return tuple("".join(pieces))
    return tuple(segmenter(segmentation)(" ".join(pieces)).split())


def rouge_n(answer: Sequence[str], reference: Sequence[str], n: int) -> float:
    """F of the n-grams two texts share, with clipped counts: F = 2PR/(P+R) (Lin, 2004).

    犬が公園を走った against 犬は公園で走った: 4 of 6 words shared, ROUGE-1 = 0.6667; one of 5 pairs, 0.2.
    """
    if n == 1:
        return f1(num_shared(answer, reference), len(answer), len(reference))
    mine, theirs = _grams(answer, n), _grams(reference, n)
    return f1(num_shared(mine, theirs), len(mine), len(theirs))


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F of the longest common subsequence over the whole text, P = LCS/answer, R = LCS/reference.

    雨 雨 雨 が 降る against 雨 が 降る: LCS 3, P = 3/5, R = 1, F = 0.75.
    """
    return f1(lcs_length(answer, reference), len(answer), len(reference))


def rouge(answer: str, reference: str, segmentation: Segmentation) -> dict[str, float]:
    """`rouge1`, `rouge2` and `rougeL` of one pair."""
    mine, theirs = rouge_tokens(answer, segmentation), rouge_tokens(reference, segmentation)
    return {
        "rouge1": rouge_n(mine, theirs, 1),
        "rouge2": rouge_n(mine, theirs, 2),
        "rougeL": rouge_l(mine, theirs),
    }


def _pair(kind: str, segmentation: Segmentation, answer: str, reference: str) -> float:
    mine, theirs = rouge_tokens(answer, segmentation), rouge_tokens(reference, segmentation)
    return rouge_l(mine, theirs) if kind == "L" else rouge_n(mine, theirs, int(kind))


# flexeval's preset xlsum_ja: n-grams as sets


@lru_cache(maxsize=CACHED_TEXTS)
def flexeval_sentences(text: str) -> tuple[Tokens, ...]:
    """IPADIC words with punctuation, split into sentences at ASCII "." as PyPI `rouge` 1.0.1 splits."""
    # U+3000 is a word to IPADIC, and `rouge` splits at it afterwards: so split at every white space.
    tokens = segmenter("ipadic")(text.strip()).strip()
    return tuple(tuple(" ".join(s.split()).split(" ")) for s in (tokens or " ").split(".") if s)


def rouge_flexeval(kind: str, answer: str, reference: str) -> float:
    """flexeval's ROUGE: n-grams as sets, F = 2PR/(P + R + 1e-8), first reference.

    A repeated word costs nothing: 会社は会社は会社は赤字だ against 会社は赤字だ has ROUGE-1 1 here, 0.667
    by XL-Sum's. ROUGE-L is the union over the reference's sentences of the words of an LCS with each of
    the answer's. Source: flexeval 8a07c3c, metric/rouge.py; PyPI rouge 1.0.1.
    """
    mine, theirs = flexeval_sentences(answer), flexeval_sentences(reference)
    words, words_reference = ([w for s in text for w in s] for text in (mine, theirs))
    n = 1 if kind == "L" else int(kind)
    grams, grams_reference = set(_grams(words, n)), set(_grams(words_reference, n))
    if not grams or not grams_reference:
        return 0.0
    if kind == "L":
        shared = len({word for r in theirs for a in mine for word in _lcs_words(r, a)})
    else:
        shared = len(grams & grams_reference)
    precision, recall = shared / len(grams), shared / len(grams_reference)
    return 2 * precision * recall / (precision + recall + FLEXEVAL_EPSILON)


def _lcs_words(reference: Tokens, answer: Tokens) -> set[str]:
    """Words of the LCS that is found from the end, going back in the answer where both ways are as long."""
    table = [[0] * (len(answer) + 1)]
    for word in reference:
        above, row = table[-1], [0]
        for column, other in enumerate(answer):
            row.append(above[column] + 1 if word == other else max(above[column + 1], row[-1]))
        table.append(row)
    found: set[str] = set()
    i, j = len(reference), len(answer)
    while i and j:
        if reference[i - 1] == answer[j - 1]:
            found.add(reference[i - 1])
            i, j = i - 1, j - 1
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found


# jp-stable


@lru_cache(maxsize=CACHED_TEXTS)
def jpstable_tokens(text: str) -> Tokens:
    """unidic-lite words, punctuation kept, after `normalize.jpstable`; no lower-casing."""
    return tuple(segmenter("unidic-lite")(jpstable(text)).split())


def rouge2_jpstable(answer: str, reference: str) -> float:
    """jp-stable's ROUGE-2 of xlsum_ja (which prints it times 100), first reference."""
    return rouge_n(jpstable_tokens(answer), jpstable_tokens(reference), 2)


def _xlsum_metrics(segmentation: Segmentation, suffix: str, label: str) -> list[Metric]:
    if segmentation == "characters":
        tokens = "characters"
    else:
        tokens = f"MeCab words, {dictionary_version(segmentation)}"
    kinds: dict[str, str] = {
        "1": "clipped unigrams",
        "2": "clipped bigrams",
        "L": "longest common subsequence",
    }
    return [
        Metric(
            id=f"rouge{kind}{suffix}",
            name=f"ROUGE-{kind}{label}",
            definition=f"F1 of {what}, XL-Sum's cleaning (lower case, punctuation out), {tokens}; "
            "best of the references",
            score=best_of(partial(_pair, kind, segmentation)),
        )
        for kind, what in kinds.items()
    ]


def rouge_metrics() -> tuple[Metric, ...]:
    """All metrics of this file."""
    flexeval = [
        Metric(
            id=f"rouge{kind}_flexeval",
            name=f"ROUGE-{kind} (flexeval)",
            definition=f"ROUGE-{kind} of n-grams as sets, punctuation kept, first reference "
            f"(flexeval 8a07c3c, rouge 1.0.1); {dictionary_version('ipadic')}",
            score=first_only(partial(rouge_flexeval, kind)),
        )
        for kind in ("1", "2", "L")
    ]
    jpstable_rouge = Metric(
        id="rouge2_jpstable",
        name="ROUGE-2 (jp-stable)",
        definition="F1 of clipped bigrams, punctuation and case kept, first reference "
        f"(jp-stable effdbea, as a fraction); {dictionary_version('unidic-lite')}, "
        f"neologdn {package_version('neologdn')}, "
        f"emoji {package_version('emoji')}",
        score=first_only(rouge2_jpstable),
    )
    return (
        *_xlsum_metrics("ipadic", "", ""),
        *_xlsum_metrics("unidic-lite", "_xlsum", " (XL-Sum)"),
        *_xlsum_metrics("characters", "_char", " (characters)"),
        *flexeval,
        jpstable_rouge,
    )
