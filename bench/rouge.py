"""ROUGE-1, -2 and -L of 10,000 Japanese pairs: tenbin against PyPI multilingual-rouge, in turn in one run.

    python bench/rouge.py DATA [--pairs 10000] [--rounds 3] [--source summaries|passages]

DATA is a folder that holds msdocs-ja-summ/*.jsonl.gz, livedoor-news/*.tar.gz and jsquad/*.json.gz.
`summaries` pairs a text's own summary or headline with its first sentences; `passages` two paragraphs
of one article. Prints one JSON line a system and round, then a line with the ratio of the median CPU
times (both run in one thread) and the largest difference of values. Both use unidic-lite; tenbin's caches
are emptied before every round.
"""

import argparse
import gc
import gzip
import json
import random
import statistics
import sys
import tarfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

from tenbin.tasks.metrics.rouge import rouge, rouge_tokens
from tenbin.tasks.words import dictionary_version, package_version

Pair = tuple[str, str]
Values = list[tuple[float, float, float]]


def summary_pairs(data: Path) -> Iterator[Pair]:
    """(lead of the text, its summary or headline)."""
    for file in sorted((data / "msdocs-ja-summ").glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                yield row["text"][:120], row["summary"]
    with tarfile.open(data / "livedoor-news" / "livedoor-news-text.tar.gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or "LICENSE" in member.name:
                continue
            lines_of_text = content.read().decode("utf-8").splitlines()
            if len(lines_of_text) > 3:
                yield "".join(lines_of_text[3:])[:120], lines_of_text[2]


def passage_pairs(data: Path) -> Iterator[Pair]:
    """Two paragraphs of one article."""
    for file in sorted((data / "jaquad").glob("*.json.gz")) + sorted((data / "jsquad").glob("*.json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as content:
            for article in json.load(content)["data"]:
                texts = [paragraph["context"] for paragraph in article["paragraphs"]]
                yield from ((texts[i], texts[j]) for i in range(len(texts)) for j in range(i))


def tenbin_system() -> Callable[[list[Pair]], Values]:
    """tenbin's definition on unidic-lite, with nothing cached."""

    def run(pairs: list[Pair]) -> Values:
        rouge_tokens.cache_clear()
        return [tuple(rouge(answer, reference, "unidic-lite").values()) for answer, reference in pairs]

    return run


def peer_system() -> Callable[[list[Pair]], Values]:
    """multilingual-rouge 0.0.1; a stand-in for pyonmttok, which it calls only where MeCab finds no word."""
    try:
        import pyonmttok  # noqa: F401
    except ImportError:
        stand_in = types.ModuleType("pyonmttok")
        stand_in.Tokenizer = lambda mode: None  # type: ignore[attr-defined]
        sys.modules["pyonmttok"] = stand_in
    from multilingual_rouge.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], lang="japanese")

    def run(pairs: list[Pair]) -> Values:
        scored = (scorer.score(reference, answer) for answer, reference in pairs)
        return [(s["rouge1"].fmeasure, s["rouge2"].fmeasure, s["rougeL"].fmeasure) for s in scored]

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", choices=("summaries", "passages"), default="summaries")
    options = parser.parse_args()
    draw = summary_pairs if options.source == "summaries" else passage_pairs
    pairs = random.Random(0).sample(list(draw(options.data)), options.pairs)
    systems = {"tenbin": tenbin_system(), "multilingual-rouge": peer_system()}
    versions = {
        "tenbin": dictionary_version("unidic-lite"),
        "multilingual-rouge": package_version("multilingual-rouge"),
    }
    for run in systems.values():
        run(pairs[:50])  # loads the dictionary
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    values: dict[str, Values] = {}
    for number in range(options.rounds):
        for name, run in systems.items():
            gc.collect()
            started, cpu_started = time.perf_counter(), time.process_time()
            values[name] = run(pairs)
            wall_s = time.perf_counter() - started
            seconds[name].append(time.process_time() - cpu_started)
            print(
                json.dumps(
                    {
                        "system": name,
                        "version": versions[name],
                        "source": options.source,
                        "round": number,
                        "num_pairs": len(pairs),
                        "mean_characters": round(statistics.fmean(len(a) + len(b) for a, b in pairs) / 2, 1),
                        "wall_s": round(wall_s, 3),
                        "cpu_s": round(seconds[name][-1], 3),
                        "pairs_per_s": round(len(pairs) / wall_s),
                    }
                ),
                flush=True,
            )
    ours, theirs = (statistics.median(seconds[name]) for name in systems)
    largest = max(
        abs(a - b)
        for mine, peer in zip(*values.values(), strict=True)
        for a, b in zip(mine, peer, strict=True)
    )
    print(json.dumps({"cpu_ratio_of_medians": round(theirs / ours, 2), "largest_difference": largest}))


if __name__ == "__main__":
    main()
