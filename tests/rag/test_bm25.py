"""BM25 against its formula written out, and its ranking."""

import math

import pytest

from tenbin.rag.bm25 import K1, B, Bm25, bigrams

TEXTS = ["東京都の人口", "京都の寺と京都の町", "大阪の食べ物", ""]


def written_out(query, position):
    documents = [bigrams(text) for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    total = 0.0
    for token in set(bigrams(query)):
        with_token = sum(token in document for document in documents)
        times = documents[position].count(token)
        if not with_token:
            continue
        idf = math.log(1 + (len(documents) - with_token + 0.5) / (with_token + 0.5))
        norm = K1 * (1 - B + B * len(documents[position]) / mean)
        total += idf * times * (K1 + 1) / (times + norm)
    return total


@pytest.mark.parametrize("query", ["京都", "京都の人口は?", "沖縄", "京都京都"])
def test_scores_are_the_formula(query):
    found = Bm25(TEXTS).scores(query)
    assert found.tolist() == pytest.approx([written_out(query, i) for i in range(len(TEXTS))])


def test_the_nearest_comes_first_and_ties_keep_their_order():
    index = Bm25(TEXTS)
    assert index.ranking("京都の寺") == [1, 0, 2, 3]
    assert index.ranking("沖縄") == [0, 1, 2, 3]


def test_widths_and_case_do_not_matter():
    assert bigrams("ＡＢｃ") == bigrams("abC") == ["ab", "bc"]


def test_no_texts():
    assert Bm25([]).ranking("何か") == []
