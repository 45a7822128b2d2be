"""Problems of a study file in plain words, from what pydantic says: every key by its path."""

import difflib
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from tenbin.errors import Problem


def config_problems(error: ValidationError, root: type[BaseModel], where: str) -> list[Problem]:
    """One problem a key, with a "did you mean" for unknown ones.

    Args:
        error: of checking `root`.
        root: the whole file's section.
        where: names the file.
    """
    return _one_each([_problem(where, item, root) for item in error.errors(include_url=False)])


def _problem(where: str, item: Any, root: type[BaseModel]) -> Problem:  # noqa: ANN401  (pydantic's ErrorDetails)
    keys, section = _walk(item["loc"], root)
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
    place = f"{where}: {path}" if path else where
    kind = item["type"]
    if kind == "extra_forbidden":
        known = list(section.model_fields) if section else []
        near = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.6)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return Problem(where=place, found="unknown key", remedy=hint)
    if kind == "missing":
        return Problem(where=place, found="is missing", remedy=f"add `{keys[-1]}`")
    message = str(item["msg"])
    if kind == "value_error":
        return Problem(where=place, found=message.removeprefix("Value error, "), remedy="change the value")
    shown = repr(item["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    found = f"{shown} is not right: {message[0].lower()}{message[1:]}"
    return Problem(where=place, found=found, remedy=_remedy(item))


def _one_each(problems: list[Problem]) -> list[Problem]:
    """One problem a key: a value that fits no branch of a union is reported once for each branch."""
    by_place: dict[str, Problem] = {}
    for problem in problems:
        first = by_place.get(problem.where)
        if first is None:
            by_place[problem.where] = problem
        elif problem.found not in first.found:
            rule = problem.found.split(" is not right: ")[-1]
            by_place[problem.where] = replace(first, found=f"{first.found}, or {rule}")
    return list(by_place.values())


_BOUNDS = {
    "greater_than": "write more than {gt}",
    "greater_than_equal": "write {ge} or more",
    "less_than": "write less than {lt}",
    "less_than_equal": "write {le} or less",
}
"""What to do about a number out of its bounds, by pydantic's name of the mistake."""


def _remedy(item: Any) -> str:  # noqa: ANN401  (pydantic's ErrorDetails)
    if item["type"] in _BOUNDS:
        return _BOUNDS[item["type"]].format(**item["ctx"])
    if item["type"].startswith("int_"):
        return "write a whole number"
    if item["type"] != "literal_error":
        return "change the value"
    choices = [c.strip().strip("'") for c in str(item["ctx"]["expected"]).replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(str(item["input"]), choices, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(choices)}"


def _walk(
    loc: tuple[int | str, ...], root: type[BaseModel]
) -> tuple[list[int | str], type[BaseModel] | None]:
    """The keys of an error's place, without the names pydantic puts in for the branches of a union,
    and the section in which the last key stands."""
    keys: list[int | str] = []
    section: type[BaseModel] | None = root
    inside: type[BaseModel] | None = root
    for part in loc:
        known = inside.model_fields if inside else {}
        unknown = isinstance(part, str) and part not in known
        if unknown and (_is_branch(str(part)) or (inside is not None and part is not loc[-1])):
            continue
        section = inside
        keys.append(part)
        if isinstance(part, str):
            inside = _section_of(known[part].annotation) if part in known else None
    return keys, section


def _is_branch(part: str) -> bool:
    return part in {"int", "str", "float"} or part.startswith(("literal[", "list[", "function-"))


def _section_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401  (a type or a generic alias)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((s for inner in getattr(annotation, "__args__", ()) if (s := _section_of(inner))), None)
