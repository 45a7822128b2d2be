"""Work: the examples that a training bench trains on, of random tokens.

Works are `1x4096` (examples x tokens, every token but the first a target, no two with a common beginning)
or questions about passages, whose lengths are read from a file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError

from tenbin.errors import DataError, Problem
from tenbin.models.encode import Encoded

QUESTIONS = "jsquad"
"""Name of the work whose examples are questions about passages."""
_Count = Annotated[int, Field(ge=1)]
_Lengths = list[tuple[_Count, list[tuple[_Count, _Count]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one optimizer step is made of."""

    name: str
    examples: tuple[Encoded, ...]
    """All that there are."""
    batch_size: int
    loss_on: Literal["response", "all"]
    most_tokens: int
    """Of a micro-batch."""


def rows(name: str, vocabulary: int) -> Work:
    """`16x256`: so many examples of so many tokens a step, all in one micro-batch."""
    count, length = map(int, name.split("x"))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, min(vocabulary, 31000), (count, length), generator=generator).tolist()
    examples = tuple(Encoded(tuple(row[:1]), tuple(row[1:])) for row in ids)
    return Work(name=name, examples=examples, batch_size=count, loss_on="all", most_tokens=count * length)


def questions(
    path: Path, *, most_tokens: int, batch_size: int, count: int | None = None, vocabulary: int = 31000
) -> Work:
    """Questions about passages, by their lengths.

    Args:
        path: JSON, a list of [passage tokens, [[question tokens, answer tokens], ...]].
        count: of questions; None: as many whole batches as there are.

    Raises:
        DataError: the file is not such a list, or has fewer questions than a batch.
    """
    passages = read_lengths(path)
    generator = torch.Generator().manual_seed(0)

    def ids(size: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, min(vocabulary, 31000), (size,), generator=generator).tolist())

    examples = tuple(_questions(passages, ids))
    if len(examples) < batch_size:
        raise DataError(
            Problem(
                where=str(path),
                found=f"{len(examples)} questions; a step takes {batch_size}",
                remedy="take fewer a step or give more lengths",
            )
        )
    if count is None:
        count = len(examples) // batch_size * batch_size
    examples = examples[:count]
    return Work(
        name="jsquad", examples=examples, batch_size=batch_size, loss_on="response", most_tokens=most_tokens
    )


def _questions(passages: _Lengths, ids: Callable[[int], tuple[int, ...]]) -> Iterator[Encoded]:
    for number, (passage, asked) in enumerate(passages):
        prefix = ids(passage)
        for question, answer in asked:
            yield Encoded((*prefix, *ids(question)), ids(answer), group=str(number))


def read_lengths(path: Path) -> _Lengths:
    """[(passage tokens, [(question tokens, answer tokens), ...]), ...] of a JSON file.

    Raises:
        DataError: the file cannot be read or holds something else.
    """
    remedy = "make it with bench/question_lengths.py"
    try:
        return TypeAdapter(_Lengths).validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(Problem(where=str(path), found=str(error), remedy=remedy)) from error
    except ValidationError as error:
        raise DataError(
            [
                Problem(
                    where="".join([str(path), *(f"[{part}]" for part in found["loc"])]),
                    found=found["msg"],
                    remedy=remedy,
                )
                for found in error.errors()
            ]
        ) from error
