"""What to tell a person whose column, answer or value is not there: what is, and what is nearest."""

import difflib
import unicodedata
from collections.abc import Mapping, Sequence

from tenbin.data.files import Source
from tenbin.errors import Problem

MAX_NAMED = 20


def no_column(source: Source, column: str, name: str, present: Sequence[str]) -> Problem:
    """The file has no such column: names those it has."""
    near = difflib.get_close_matches(column, present, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(short(p) if p else "(no name)" for p in present[:MAX_NAMED]) or "none"
    more = f" and {len(present) - MAX_NAMED:,} more" if len(present) > MAX_NAMED else ""
    key = "data.split.group_by" if name == "group" else f'columns = {{ {name} = "..." }}'
    return Problem(
        where=source.name,
        field=name,
        found=f"there is no column {column!r}; there are: {shown}{more}",
        remedy=f"{hint}name the column in the study: {key}",
    )


def not_in_passage(answer: str, passage: str) -> tuple[str, str]:
    """(What is wrong, what to do) about an answer that should be copied from its passage."""
    found = f"the answer {short(answer)} is not in its passage"
    return found, f"nearest there: {nearest(answer, passage)}; copy the answer from the passage"


def nearest(answer: str, passage: str) -> str:
    """The part of a passage that is most like an answer, quoted; "nothing like it" where there is none."""
    if unicodedata.normalize("NFKC", answer) in unicodedata.normalize("NFKC", passage):
        return "the same text in other character widths"
    if len(answer) * len(passage) > 10_000_000:
        return "(not searched: too long)"
    match = difflib.SequenceMatcher(None, passage, answer, autojunk=False).find_longest_match()
    if match.size * 3 < len(answer):
        return "nothing like it"
    start = max(0, match.a - match.b)
    return short(passage[start : start + len(answer)])


def short(text: str) -> str:
    """A text quoted, at most 60 characters of it."""
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def names_of(values: Mapping[str, object]) -> str:
    """The keys of a row, to be shown."""
    return ", ".join(list(values)[:MAX_NAMED]) or "nothing"


def label_notes(name: str, values: Mapping[str, int], labels: Mapping[str, str] | None) -> list[str]:
    """What `data.labels` did with a file whose rows have these values: left out, and never met."""
    if labels is None or not values:
        return []
    notes = []
    others = {value: number for value, number in values.items() if value not in labels}
    if others:
        most = sorted(others.items(), key=lambda item: -item[1])[:MAX_NAMED]
        shown = ", ".join(f"{short(value)} {number:,}" for value, number in most)
        notes.append(f"{name}: {sum(others.values()):,} rows left out by data.labels: {shown}")
    unused = [value for value in labels if value not in values]
    if unused:
        notes.append(f"{name}: data.labels names values that no row has: {', '.join(map(short, unused))}")
    return notes
