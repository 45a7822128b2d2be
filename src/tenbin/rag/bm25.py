"""BM25 over character bigrams: which texts share rare character pairs with a query."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K1, B = 1.2, 0.75
"""The usual values (Robertson and Zaragoza 2009, section 3.2)."""
WORD = re.compile(r"\w+")


def bigrams(text: str) -> list[str]:
    """Pairs of neighbouring letters after NFKC and lower case; a letter that stands alone is one, too.

    Japanese has no spaces; pairs of characters find compounds and inflected words without a dictionary, so
    that the ranking depends on no version of one.

    >>> bigrams("東京都。A")
    ['東京', '京都', 'a']
    """
    found = []
    for run in WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
    return found


class Bm25:
    """An index of texts.

    score(q, d) = Σ_t idf(t) f (k1 + 1) / (f + k1 (1 - b + b |d| / mean |d|)), f = times of t in d, over the
    different bigrams t of q, idf(t) = ln(1 + (N - n_t + 1/2) / (n_t + 1/2)), which is never negative
    (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond").
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.num_texts = len(texts)
        counts = [Counter(bigrams(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts], np.float64)
        mean = float(lengths.mean()) if lengths.sum() else 1.0
        self._weight = K1 * (1 - B + B * lengths / mean)  # (N,)
        postings: dict[str, list[tuple[int, int]]] = {}
        for position, count in enumerate(counts):
            for token, times in count.items():
                postings.setdefault(token, []).append((position, times))
        self._postings: dict[str, NDArray[np.int64]] = {
            token: np.array(found, np.int64) for token, found in postings.items()
        }

    def scores(self, query: str) -> NDArray[np.float64]:
        """(N,) scores of all texts; 0 where nothing is shared."""
        scores = np.zeros(self.num_texts)
        for token in dict.fromkeys(bigrams(query)):
            found = self._postings.get(token)
            if found is None:
                continue
            positions, times = found[:, 0], found[:, 1]
            rare = np.log(1 + (self.num_texts - len(found) + 0.5) / (len(found) + 0.5))
            scores[positions] += rare * times * (K1 + 1) / (times + self._weight[positions])
        return scores

    def ranking(self, query: str) -> list[int]:
        """Positions of all texts, the best first; equal scores in the order of the texts."""
        order: list[int] = np.argsort(-self.scores(query), kind="stable").tolist()
        return order
