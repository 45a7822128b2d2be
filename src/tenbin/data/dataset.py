"""Dataset: an immutable set of examples with a name and a fingerprint."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tenbin.types import Example

BATCH = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Examples in the order of their file. Make one with `Dataset.of`."""

    name: str
    """`train`, `validation` or `test`."""
    examples: tuple[Example, ...] = field(repr=False)
    fingerprint: str
    """See `fingerprint_of`."""

    @staticmethod
    def of(name: str, examples: Sequence[Example]) -> "Dataset":
        """A set of these examples, fingerprinted."""
        return Dataset(name=name, examples=tuple(examples), fingerprint=fingerprint_of(examples))

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    @property
    def num_groups(self) -> int:
        """Different groups; 0 where examples have none."""
        return len({example.group for example in self.examples if example.group is not None})

    @property
    def num_unlabeled(self) -> int:
        """Examples without a reference."""
        return sum(not example.references for example in self.examples)

    @property
    def category_counts(self) -> dict[str, int]:
        """First reference -> number of examples, most frequent first. For classification."""
        counts = Counter(example.references[0] for example in self.examples if example.references)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def fingerprint_of(examples: Sequence[Example]) -> str:
    """First 16 hex digits of the SHA-256 of ids, inputs, references, groups and marking.

    The order of the examples and of the fields does not matter; where they were read does not, either.
    """
    digest = hashlib.sha256()
    parts: list[str] = []
    for example in sorted(examples, key=lambda example: example.id):
        inputs = example.inputs
        parts.append(example.id)
        if len(inputs) == 1:
            for item in inputs.items():
                parts += item
        else:
            for name in sorted(inputs):
                parts += (name, inputs[name])
        # \1 cannot be confused with a text's own characters without a \0 beside it, which readers refuse
        parts += ("\1", *example.references, "\1", example.group if example.group is not None else "\2", "\3")
        if example.marking:
            parts += ("\4", *(text for item in sorted(example.marking.items()) for text in item))
        if len(parts) > BATCH:
            digest.update(("\0".join(parts) + "\0").encode("utf-8", "surrogatepass"))
            parts = []
    digest.update("\0".join(parts).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
