"""Japanese text normalization, each as its source does it: JGLUE, jp-stable, AI King, the paper."""

import re
import string
import unicodedata
from functools import lru_cache
from typing import Any

from tenbin.errors import MissingExtra, Problem

PAPER_ENDINGS = ("から", "は", "が", "に", "と", "で", "を", "へ", "て", "の", "、", "。")
"""Particles and punctuation that the paper takes off the end of a JSQuAD answer (our reading of 4.3)."""
PAPER_END_MARK = "<EOD|LLM-jp>"

# What jp-stable leaves out of the words of an F1 (lm_eval/jasquad/evaluate.py, remove_punc): most of
# U+3000-303F and U+FF00-FF65 that is punctuation, general punctuation, and ASCII's.
JPSTABLE_PUNCTUATION = frozenset(
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕"
    "〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏." + string.punctuation
)
# Pictographs beside those that the `emoji` package lists (same file, remove_emoji).
PICTOGRAPHS = re.compile(
    "[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff✂-➰]"
)

_ROUND_BRACKETS = re.compile(r"\(.*?\)")


def jglue(text: str) -> str:
    """JGLUE's: lower case, every trailing 。 off, then white space to single spaces. No NFKC.

    The 。 goes before the white space: 「東京。 」 keeps it.

    >>> jglue("Tokyo　Tower。。")
    'tokyo tower'
    """
    return " ".join(text.lower().rstrip("。").split())


def nfkc(text: str) -> str:
    """Unicode NFKC: full-width Latin and digits to ASCII, half-width katakana to full.

    >>> nfkc("Ｗｅｂ１２")
    'Web12'
    """
    return unicodedata.normalize("NFKC", text)


def paper_trim(text: str) -> str:
    """The paper's post-processing of a JSQuAD answer, in our reading of its section 4.3.

    Cut at the end mark, strip, then take one trailing item of PAPER_ENDINGS off after another while a
    character stays. It damages answers that end in such a kana (いろは), so raw scores stand beside it.

    >>> paper_trim("名古屋からは。")
    '名古屋'
    """
    text = text.split(PAPER_END_MARK)[0].strip()
    while True:
        ending = next((e for e in PAPER_ENDINGS if text.endswith(e) and len(text) > len(e)), None)
        if ending is None:
            return text
        text = text[: -len(ending)]


def ai_king(text: str) -> str:
    """The AI King quiz's, as flexeval's AIONormalizer: NFKC, lower case, 「」『』 off, ・ = - and all white
    space out, text in round brackets out.

    >>> ai_king("「蛹化（ようか）」")
    '蛹化'
    """
    text = nfkc(text.replace("～", "〜")).lower()
    # Two passes, since a pair of one kind may stand inside a pair of the other.
    text = re.sub("『(.*?)』", r"\1", re.sub("「(.*?)」", r"\1", text))
    text = re.sub(r"\s+", "", re.sub("[・=-]", "", text))
    return _ROUND_BRACKETS.sub("", text)


def jpstable(text: str) -> str:
    """jp-stable's: emoji out, neologdn (width, dashes, long vowels, spaces between Japanese), single spaces.

    Raises:
        MissingExtra: without neologdn or emoji.
    """
    emoji, neologdn = _jpstable_packages()
    plain = PICTOGRAPHS.sub("", "".join(c for c in text if not emoji.is_emoji(c)))
    return " ".join(str(neologdn.normalize(plain)).split())


@lru_cache(maxsize=1)
def _jpstable_packages() -> tuple[Any, Any]:
    try:
        import emoji
        import neologdn
    except ImportError as error:
        raise MissingExtra(
            Problem(
                where="metrics",
                found=f"jp-stable's text normalization needs {error.name}, which is not installed",
                remedy='pip install "tenbin[jpstable]"',
            )
        ) from error
    return emoji, neologdn
