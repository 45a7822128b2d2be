"""The columns of a grading sheet, and what stands in them for one answer."""

from collections.abc import Mapping
from typing import Literal, get_args

from tenbin.grading.items import Item
from tenbin.report.words import LANGUAGES, Language, Words

Column = Literal[
    "number",
    "question_id",
    "category",
    "question",
    "context",
    "choices",
    "references",
    "marking_note",
    "points",
    "answer",
    "grade",
    "comment",
    "code",
]
COLUMNS: tuple[Column, ...] = get_args(Column)
OPTIONAL: tuple[Column, ...] = ("category", "context", "choices", "references", "marking_note")
"""Left out of a sheet where no question has them."""
NEEDED: tuple[Column, ...] = ("code", "grade")
"""Without these a sheet cannot be read back."""
WIDTHS: Mapping[Column, int] = {
    "number": 6,
    "question_id": 9,
    "category": 12,
    "question": 42,
    "context": 48,
    "choices": 32,
    "references": 32,
    "marking_note": 36,
    "points": 6,
    "answer": 56,
    "grade": 9,
    "comment": 30,
    "code": 13,
}
"""In characters of the normal font."""


def heading(column: Column, words: Words) -> str:
    """What stands in the header."""
    return words(f"sheet.{column}")


def headings(language: Language) -> dict[str, Column]:
    """Heading -> column, in one language."""
    return {heading(column, Words(language)): column for column in COLUMNS}


def known_headings() -> dict[str, Column]:
    """Heading -> column, in every language."""
    return {text: column for language in LANGUAGES for text, column in headings(language).items()}


def cell_texts(item: Item, words: Words) -> dict[Column, str]:
    """What a rater sees of one answer; nothing of who gave it."""
    fields = item.fields
    known = {
        "category",
        "question",
        "context",
        "choices",
        "marking_note",
        "points",
        "grade",
        "tolerance",
        "unit",
    }
    more = [f"{name}: {text}" for name, text in fields.items() if name not in known]
    return {
        "question_id": item.question,
        "category": fields.get("category", ""),
        "question": "\n".join([fields.get("question", ""), *more]),
        "context": fields.get("context", ""),
        "choices": fields.get("choices", ""),
        "references": "\n".join(item.references),
        "marking_note": fields.get("marking_note", ""),
        "answer": item.answer if item.answer.strip() else words("sheet.no_answer"),
        "code": item.code,
    }
