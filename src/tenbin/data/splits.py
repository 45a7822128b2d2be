"""Splits: the train, validation and test sets, taken from one set by seed, category and group; and leaks."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tenbin.data.dataset import Dataset
from tenbin.errors import DataError, Problem
from tenbin.types import Example, SplitName

Shares = Mapping[SplitName, float]
Stratum = Callable[[Example], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Something that is in two sets, so that scores on the later one are too good."""

    kind: str
    """`text` (all inputs equal after NFKC), `passage` or `group`."""
    first: SplitName
    second: SplitName
    num_examples: int
    """Examples of the second set that the first gives away."""
    places: tuple[tuple[str, str], ...]
    """At most five pairs of places: (in the first set, in the second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The sets of a study. Without a test set, validation both chooses and reports."""

    train: Dataset
    validation: Dataset | None = None
    test: Dataset | None = None
    categories: tuple[str, ...] = ()
    """Classification: the allowed ones."""
    columns: tuple[str, ...] = ()
    """Of the training file."""
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """File -> reason -> rows left out on purpose."""
    bad_rows: tuple[Problem, ...] = ()
    """What is wrong with the rows that `data.skip_bad_rows` left out."""
    num_bad_rows: int = 0
    groups_together: bool = True
    """Whether a group belongs into one set; False where groups are only strata."""

    def sets(self) -> Iterator[tuple[SplitName, Dataset]]:
        """The sets that exist, in the order train, validation, test."""
        yield "train", self.train
        if self.validation is not None:
            yield "validation", self.validation
        if self.test is not None:
            yield "test", self.test


def content_key(example: Example) -> str:
    """The inputs after NFKC, without differences of space at the ends: equal keys are the same question."""
    return "\0".join(unicodedata.normalize("NFKC", text).strip() for text in example.inputs.values())


def split_examples(
    examples: Sequence[Example],
    shares: Shares,
    *,
    seed: int,
    stratum: Stratum | None = None,
    keep_groups: bool = True,
) -> dict[SplitName, tuple[Example, ...]]:
    """Divide examples into sets of about these shares, each in the order given.

    Examples of one group stay in one set; so do, without groups, examples with the same inputs. Units are
    taken in the order of a hash of the seed and their content, and each goes to the set that lacks its
    strata most (Sechidis et al. 2011, "On the stratification of multi-label data", made deterministic),
    so the result depends neither on the order of the rows nor on their numbers.

    Args:
        shares: set -> share; they sum to 1.
        stratum: what is to have the same shares in every set, for example the category.
        keep_groups: False: groups may be divided.

    Raises:
        DataError: a set with a share would be empty.
    """
    order: tuple[SplitName, ...] = ("test", "validation", "train")
    names = [name for name in order if shares.get(name, 0) > 0]
    units: dict[str, list[int]] = {}
    for position, example in enumerate(examples):
        grouped = keep_groups and example.group is not None
        key = f"group\0{example.group}" if grouped else content_key(example)
        units.setdefault(key, []).append(position)
    strata = [stratum(example) if stratum else "" for example in examples]
    lacking = {name: {s: n * shares[name] for s, n in Counter(strata).items()} for name in names}
    places: dict[SplitName, list[int]] = {name: [] for name in names}
    for key in sorted(units, key=lambda key: _order(key, "split", seed)):
        counts = Counter(strata[position] for position in units[key])
        best = max(
            names,
            key=lambda name: _need(counts, lacking[name], shares[name] * len(strata) - len(places[name])),
        )
        for s, n in counts.items():
            lacking[best][s] -= n
        places[best] += units[key]
    empty = [name for name in names if not places[name]]
    if empty:
        kind = "groups" if any(key.startswith("group\0") for key in units) else "different rows"
        found = f"{len(units)} {kind} leave nothing for {' and '.join(empty)}"
        remedy = "give larger shares, or files of their own"
        raise DataError(Problem(where="data.split", found=found, remedy=remedy))
    return {name: tuple(examples[position] for position in sorted(places[name])) for name in names}


def draw(
    examples: Sequence[Example], limit: int, *, seed: int, stratum: Stratum | None = None
) -> tuple[Example, ...]:
    """At most `limit` of the examples, in their order, with the same shares of every stratum.

    Strata get their share of the limit rounded down, and the largest remainders one more each; in a stratum
    the examples come in the order of a hash of the seed and their content.
    """
    if limit >= len(examples):
        return tuple(examples)
    by_stratum: dict[str, list[int]] = {}
    for position, example in enumerate(examples):
        by_stratum.setdefault(stratum(example) if stratum else "", []).append(position)
    exact = {name: len(positions) * limit / len(examples) for name, positions in by_stratum.items()}
    quota = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quota[name] - exact[name], name))
    for name in by_remainder[: limit - sum(quota.values())]:
        quota[name] += 1
    chosen: list[int] = []
    for name, positions in by_stratum.items():
        keys = {
            position: _order(f"{examples[position].id}\0{content_key(examples[position])}", "limit", seed)
            for position in positions
        }
        chosen += sorted(positions, key=keys.__getitem__)[: quota[name]]
    return tuple(examples[position] for position in sorted(chosen))


def find_leaks(splits: Splits) -> tuple[Leak, ...]:
    """Texts, passages and groups that are in more than one set."""
    kinds: dict[str, Callable[[Example], str | None]] = {"text": content_key}
    if "passage" in next(iter(splits.train.examples[:1]), _NOTHING).inputs:
        kinds["passage"] = lambda example: unicodedata.normalize("NFKC", example.inputs["passage"]).strip()
    if splits.groups_together:
        kinds["group"] = lambda example: example.group
    sets = list(splits.sets())
    leaks: list[Leak] = []
    for kind, key in kinds.items():
        first_places = [_first_places(dataset, key) for _, dataset in sets]
        for i, (first, _) in enumerate(sets):
            for second, dataset in sets[i + 1 :]:
                found = [e for e in dataset if (k := key(e)) is not None and k in first_places[i]]
                if found:
                    pairs = [(first_places[i][key(e) or ""], e.source or e.id) for e in found[:MAX_PLACES]]
                    leaks.append(
                        Leak(
                            kind=kind,
                            first=first,
                            second=second,
                            num_examples=len(found),
                            places=tuple(pairs),
                        )
                    )
    return tuple(leaks)


MAX_PLACES = 5
_NOTHING = Example(id="", inputs={})


def _first_places(dataset: Dataset, key: Callable[[Example], str | None]) -> dict[str, str]:
    places: dict[str, str] = {}
    for example in dataset:
        value = key(example)
        if value is not None:
            places.setdefault(value, example.source or example.id)
    return places


def _order(key: str, purpose: str, seed: int) -> bytes:
    return hashlib.sha256(f"{purpose}\0{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()


def _need(
    counts: Mapping[str, int], lacking: Mapping[str, float], lacking_in_all: float
) -> tuple[float, float]:
    """How much a set needs a unit: by its strata first, by its size where those are equal."""
    return round(sum(n * lacking[s] for s, n in counts.items()), 6), lacking_in_all
