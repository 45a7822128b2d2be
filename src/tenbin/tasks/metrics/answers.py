"""Metrics of short answers: exact match, character F1, word F1, similarity ratios, set F1, points."""

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from tenbin.tasks import normalize
from tenbin.tasks.base import Metric
from tenbin.tasks.metrics.overlap import f1, lcs_length, num_shared
from tenbin.tasks.words import dictionary_version, package_version, segmenter
from tenbin.types import Example

NON_WORD = re.compile(r"\W")
LATIN_1 = dict.fromkeys(range(0x80, 0x100))
GRADES = {
    "1": 1.0,
    "1.0": 1.0,
    "○": 1.0,
    "〇": 1.0,
    "0.5": 0.5,
    ".5": 0.5,
    "△": 0.5,
    "0": 0.0,
    "0.0": 0.0,
    "×": 0.0,
}

RATIO = "2 LCS/(a + b) of characters in whole percent, not an F1"

Pair = Callable[[str, str], float]
"""(answer, reference) -> score."""


def best_of(pair: Pair) -> Callable[[str | None, Example], float]:
    """The best score over all references; 0 where nothing was parsed."""

    def score(answer: str | None, example: Example) -> float:
        return 0.0 if answer is None else max((pair(answer, r) for r in example.references), default=0.0)

    return score


def first_only(pair: Pair) -> Callable[[str | None, Example], float]:
    """The score against the first reference, where the source looks at no other."""

    def score(answer: str | None, example: Example) -> float:
        return 0.0 if answer is None else pair(answer, example.references[0])

    return score


# JGLUE, the official JSQuAD script


def _jglue_references(example: Example) -> Sequence[str]:
    """Normalized references; those that are then empty do not count, and none left is the empty answer."""
    normalized = [normalize.jglue(reference) for reference in example.references]
    return [reference for reference in normalized if reference] or [""]


def jsquad_em(answer: str | None, example: Example) -> float:
    """1 if the answer equals a reference after `normalize.jglue` (lower case, 。 off, white space).

    Source: JGLUE, patch for transformers 4.9.2, squad_metrics.py. 「富士山。。」 against 富士山: 1.
    """
    if answer is None:
        return 0.0
    return float(normalize.jglue(answer) in _jglue_references(example))


def jsquad_f1(answer: str | None, example: Example) -> float:
    """F1 of the characters two texts share, spaces included, best over the references.

    Same source and normalization. An empty side scores 1 only against an empty side.
    2021年 against 2021年（令和3年）: 5 shared, P = 5/5, R = 5/11, F1 = 10/16 = 0.625.
    """
    if answer is None:
        return 0.0
    text = normalize.jglue(answer)
    return max(_character_f1(text, reference) for reference in _jglue_references(example))


def _character_f1(answer: str, reference: str) -> float:
    if not answer or not reference:
        return float(answer == reference)
    return f1(num_shared(answer, reference), len(answer), len(reference))


def _trimmed(score: Callable[[str | None, Example], float]) -> Callable[[str | None, Example], float]:
    def trimmed(answer: str | None, example: Example) -> float:
        return score(None if answer is None else normalize.paper_trim(answer), example)

    return trimmed


# jp-stable (Stability AI's harness)


@lru_cache(maxsize=1 << 16)
def jpstable_words(text: str) -> tuple[str, ...]:
    """unidic-lite words after `normalize.jpstable`, without punctuation."""
    parsed = segmenter("unidic-lite")(normalize.jpstable(text)).split()
    return tuple(word for word in parsed if word not in normalize.JPSTABLE_PUNCTUATION)


def _jpstable_em(answer: str, reference: str) -> float:
    return float(normalize.jpstable(answer) == normalize.jpstable(reference))


def _jpstable_f1(answer: str, reference: str) -> float:
    mine, theirs = jpstable_words(answer), jpstable_words(reference)
    return f1(num_shared(mine, theirs), len(mine), len(theirs))


# fuzzywuzzy's ratios, which llm-jp-eval and flexeval call char_f1


def _indel_percent(first: str, second: str) -> int:
    """fuzz.ratio: 100 (1 - d/(a + b)), d = a + b - 2 LCS, rounded half to even; equal texts are 100."""
    if first == second:
        return 100
    if not first or not second:
        return 0
    total = len(first) + len(second)
    # Written as python-Levenshtein computes it, so that halves round alike.
    return round(100 * (1.0 - (total - 2 * lcs_length(first, second)) / total))


def _sorted_words(text: str) -> str:
    """fuzzywuzzy's token sort: U+0080-00FF out, non-word characters to spaces, lower case, sorted."""
    return " ".join(sorted(NON_WORD.sub(" ", text.translate(LATIN_1)).lower().split()))


def _llmjp_answer(answer: str) -> str:
    return normalize.nfkc(answer.split("\n\n")[0].strip())


def similarity_llmjp(answer: str, reference: str) -> float:
    """llm-jp-eval's "char_f1", which is no F1: token_sort_ratio / 100 after NFKC, first reference.

    The answer is cut at its first blank line. 赤・白・青 against 青・赤・白: 1, for the pieces are sorted.
    """
    return (
        _indel_percent(_sorted_words(_llmjp_answer(answer)), _sorted_words(normalize.nfkc(reference))) / 100
    )


def similarity_llmjp_difflib(answer: str, reference: str) -> float:
    """The same without python-Levenshtein installed: fuzzywuzzy then took difflib's ratio in silence."""
    mine, theirs = _sorted_words(_llmjp_answer(answer)), _sorted_words(normalize.nfkc(reference))
    if mine == theirs:
        return 1.0
    if not mine or not theirs:
        return 0.0
    return round(100 * SequenceMatcher(None, mine, theirs).ratio()) / 100


def _llmjp_em(answer: str, reference: str) -> float:
    return float(_llmjp_answer(answer) == normalize.nfkc(reference))


def similarity_flexeval(answer: str, reference: str) -> float:
    """flexeval's "char_f1", which is no F1: fuzz.ratio / 100, no normalization, best reference.

    「富士山。。」 against 富士山: LCS 3, 2 * 3/(5 + 3) = 0.75.
    """
    return _indel_percent(answer, reference) / 100


def _flexeval_em(answer: str, reference: str) -> float:
    return float(answer == reference)


EXACT_MATCH_NFKC = (
    "equality; NFKC, lower case, white space joined, 。 off the end; best of the references (tenbin)"
)


def exact_match_nfkc(answer: str, reference: str) -> float:
    """1 if the texts are equal after NFKC, lower case, white space joined and 。 off the end.

    Source: ours, for short answers. 「２０２１ 年。」 against 2021 年: 1; 42です against 42: 0.
    """
    return float(_plain(answer) == _plain(reference))


def _plain(text: str) -> str:
    return " ".join(normalize.nfkc(text).lower().split()).rstrip("。").rstrip()


def _ai_king(pair: Pair) -> Pair:
    return lambda answer, reference: pair(normalize.ai_king(answer), normalize.ai_king(reference))


# Sets and points


def set_f1(answer: str, reference: str) -> float:
    """F1 of lines, stripped: those of the answer once each, those of the reference as often as written.

    Source: wandb/llm-leaderboard, metrics.py. 赤/青/白 against 赤/青: P = 2/3, R = 1, F1 = 0.8.
    """
    mine = {line.strip() for line in answer.split("\n")}
    theirs = [line.strip() for line in reference.split("\n")]
    precision = sum(line in theirs for line in mine) / len(mine)
    recall = sum(line in mine for line in theirs) / len(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


POINTS = (
    "points earned / points of the graded questions; a question earns its points times its grade's share of "
    "the highest grade (1 right, 0.5 partly right, 0 wrong), given by people, else by its rule, else by a "
    "judge; questions that are not graded are in neither sum"
)


def points(answer: str | None, example: Example) -> float:
    """Points of a question bank: the answer is the grade a person or a judge gave, 1, 0.5 or 0 (○ △ ×).

    10 right, 2 half right and 1 wrong of 13: 11/13.

    Raises:
        ValueError: if the answer is not a grade; nothing is taken for 0.
    """
    if answer is None:
        return 0.0
    grade = GRADES.get(normalize.nfkc(answer).strip())
    if grade is None:
        raise ValueError(f"{example.id}: {answer!r} is not a grade; use 1, 0.5 or 0 (○ △ ×)")
    return grade


Row = tuple[str, str, str, Callable[[str | None, Example], float], bool]
"""Id, name, definition, score, and whether scores are 0 or 1."""


def answer_metrics() -> tuple[Metric, ...]:
    """All metrics of this file."""
    own: list[Row] = [
        ("exact_match_nfkc", "EM", EXACT_MATCH_NFKC, best_of(exact_match_nfkc), True),
        ("points", "points", POINTS, points, False),
    ]
    return tuple(
        Metric(id=id_, name=name, definition=text, score=score, interval="proportion" if binary else "mean")
        for id_, name, text, score, binary in (*_reading_rows(), *_llmjp_rows(), *_flexeval_rows(), *own)
    )


def _reading_rows() -> list[Row]:
    jglue = "lower case, trailing 。 off, white space joined; best of the references (JGLUE 1.3.0)"
    trim = "after trimming the answer as the paper (section 4.3, our reading: particles and 、。 off the end)"
    neologdn = f"neologdn {package_version('neologdn')}, emoji {package_version('emoji')}"
    jpstable = f"best of the references (jp-stable effdbea); {dictionary_version('unidic-lite')}, {neologdn}"
    words = f"F1 of words without punctuation; {jpstable}"
    return [
        ("jsquad_em", "EM", f"equality; {jglue}", jsquad_em, True),
        ("jsquad_f1", "F1", f"F1 of characters; {jglue}", jsquad_f1, False),
        ("jsquad_em_paper", "EM (paper)", f"jsquad_em {trim}", _trimmed(jsquad_em), True),
        ("jsquad_f1_paper", "F1 (paper)", f"jsquad_f1 {trim}", _trimmed(jsquad_f1), False),
        ("jpstable_em", "EM jp-stable", f"equality; {jpstable}", best_of(_jpstable_em), True),
        ("jpstable_f1", "word F1", words, best_of(_jpstable_f1), False),
    ]


def _llmjp_rows() -> list[Row]:
    llmjp = "NFKC, answer cut at a blank line, first reference (llm-jp-eval 1.3.0)"
    sort = f"{RATIO}, pieces sorted (its `char_f1`); {llmjp}"
    difflib = f"as similarity_llmjp where fuzzywuzzy ran without python-Levenshtein; {llmjp}"
    sets = "F1 of stripped lines, first reference (llm-jp-eval, Nejumi)"
    name = "similarity llm-jp"
    return [
        ("exact_match_llmjp", "EM llm-jp", f"equality; {llmjp}", first_only(_llmjp_em), True),
        ("similarity_llmjp", name, sort, first_only(similarity_llmjp), False),
        (
            "similarity_llmjp_difflib",
            f"{name} (difflib)",
            difflib,
            first_only(similarity_llmjp_difflib),
            False,
        ),
        ("set_f1", "set F1", sets, first_only(set_f1), False),
    ]


def _flexeval_rows() -> list[Row]:
    plain = "no normalization, best of the references (flexeval 8a07c3c)"
    king = "AI King normalization of both sides, best of the references (flexeval 8a07c3c, AIONormalizer)"
    em, ratio = best_of(_flexeval_em), best_of(similarity_flexeval)
    em_king, ratio_king = best_of(_ai_king(_flexeval_em)), best_of(_ai_king(similarity_flexeval))
    name = "similarity flexeval"
    return [
        ("exact_match_flexeval", "EM flexeval", f"equality, {plain}", em, True),
        ("similarity_flexeval", name, f"{RATIO} (its `char_f1`), {plain}", ratio, False),
        ("exact_match_flexeval_aio", "EM flexeval (AIO)", f"equality, {king}", em_king, True),
        ("similarity_flexeval_aio", f"{name} (AIO)", f"{RATIO}, {king}", ratio_king, False),
    ]
