"""Examples of bench/fp8_quality.py: real files as tasks, drawn at random and encoded once for all runs."""

import gzip
import json
import random
from dataclasses import dataclass

from tenbin.models.encode import Encoded
from tenbin.tasks import classification, reading
from tenbin.types import Example

GRADES = {"◎": "良い", "○": "良い", "▲": "悪い", "×": "悪い"}
CATEGORIES = ("良い", "悪い")


def opened(path):
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def watchers(path):
    with opened(path) as file:
        rows = [json.loads(line) for line in file]
    return [
        Example(
            id=str(row["id"]),
            inputs={"text": row["追加説明及び具体的状況の説明"]},
            references=(GRADES[row["景気の現状判断"]],),
        )
        for row in rows
        if row["景気の現状判断"] in GRADES
    ]


def squad(path):
    with opened(path) as file:
        articles = json.load(file)["data"]
    return [
        Example(
            id=str(question["id"]),
            inputs={"passage": paragraph["context"], "question": question["question"]},
            references=tuple(dict.fromkeys(answer["text"] for answer in question["answers"])),
            group=f"{number}-{place}",
        )
        for number, article in enumerate(articles)
        for place, paragraph in enumerate(article["paragraphs"])
        for question in paragraph["qas"]
    ]


DATA = {
    "watchers": (watchers, classification.task(classification.plain(CATEGORIES), CATEGORIES, None)),
    "squad": (squad, reading.task(reading.PLAIN, None)),
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """Examples that fit, those of a group together, beside their tokens."""

    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    left_out: int
    """Looked at, and too long."""

    def first(self, count):
        """The first so many."""
        return Drawn(self.examples[:count], self.encoded[:count], self.left_out)

    @property
    def groups(self):
        """One an example: what chance draws together."""
        return [example.group or example.id for example in self.examples]


def drawn(examples, count, encode, most):
    """So many of at most `most` tokens, groups at random; fewer where there are no more.

    `encode`: example -> Encoded.
    """
    groups = {}
    for example in examples:
        groups.setdefault(example.group or example.id, []).append(example)
    order = sorted(groups)
    random.Random(0).shuffle(order)
    found, left_out = [], 0
    for name in order:
        both = [(example, encode(example)) for example in groups[name]]
        there = [(example, encoded) for example, encoded in both if len(encoded) <= most]
        left_out += len(both) - len(there)
        found += there
        if len(found) >= count:
            break
    kept = found[:count]
    return Drawn(tuple(one for one, _ in kept), tuple(encoded for _, encoded in kept), left_out)
