"""Near duplicates: the pairs of a brute-force search, and no others."""

import random

from tenbin.data.similarity import CHUNK, jaccard, near_duplicates


def edited(text: str, rng: random.Random, edits: int) -> str:
    letters = list(text)
    for _ in range(edits):
        letters[rng.randrange(len(letters))] = chr(rng.randrange(0x3041, 0x3097))
    return "".join(letters)


def test_finds_what_comparing_all_pairs_finds() -> None:
    rng = random.Random(0)
    base = [
        "".join(chr(rng.randrange(0x4E00, 0x4F00)) for _ in range(rng.randrange(30, 90))) for _ in range(150)
    ]
    texts = base + [edited(text, rng, rng.randrange(1, 6)) for text in base]
    rng.shuffle(texts)
    all_pairs = {(i, j) for i in range(len(texts)) for j in range(i) if jaccard(texts[j], texts[i]) >= 0.8}
    found = {(pair.second, pair.first) for pair in near_duplicates(texts, 0.8)}
    assert found <= all_pairs
    assert len(found) >= 0.98 * len(all_pairs)
    assert len(all_pairs) > 30


def test_widths_and_spaces_do_not_matter() -> None:
    (pair,) = near_duplicates(["ＡＢＣ株式会社の売上", "ABC 株式会社の売上", "全く別の文です"])
    assert (pair.first, pair.second, pair.similarity) == (0, 1, 1.0)


def test_a_cluster_is_joined() -> None:
    texts = [f"来客数が前年並みで推移しており、単価もほぼ変わっていない。{i}" for i in range(50)]
    pairs = near_duplicates(texts)
    assert {pair.first for pair in pairs} | {pair.second for pair in pairs} == set(range(50))


def test_short_and_few_texts() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates(["", "あ", "あい"]) == []
    assert near_duplicates(["あいう"]) == []
    assert [(p.first, p.second) for p in near_duplicates(["", "あいう", "い", "あいう"])] == [(1, 3)]


def test_texts_of_several_chunks() -> None:
    rng = random.Random(0)
    texts = ["".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(CHUNK // 4)) for _ in range(6)]
    texts.append(edited(texts[0], rng, 1000))
    assert [(pair.first, pair.second) for pair in near_duplicates(texts)] == [(0, 6)]
