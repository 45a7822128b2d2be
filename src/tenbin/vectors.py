"""Checking our metrics and statistics against a file of expected values (schema metric-vectors/1).

Such a file holds, by the name of a published metric, cases with inputs and the values that its own
code gave. `VECTORS` says which of our metrics each name and key stands for.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenbin import stats
from tenbin.errors import DataError, MissingExtra, Problem
from tenbin.tasks.base import Scored
from tenbin.tasks.metrics import METRICS, first_word
from tenbin.tasks.metrics.answers import jpstable_words
from tenbin.tasks.metrics.rouge import jpstable_tokens, rouge_tokens
from tenbin.tasks.normalize import paper_trim
from tenbin.tasks.words import words
from tenbin.types import Estimate, Example

SCHEMA = "metric-vectors/1"
TOLERANCE = 1e-6
GRADES = (0.0, 0.5, 1.0)

Case = Mapping[str, Any]
Values = Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True)
class VerifyRow:
    """One metric of a file of expected values."""

    metric: str
    agreed: int
    """Cases whose every value agrees to 1e-6."""
    total: int
    differences: tuple[str, ...]
    """One line a value that does not agree: case, key, expected and found."""


@dataclass(frozen=True, slots=True)
class Vector:
    """How the cases of one published metric are computed here."""

    inputs: tuple[str, ...]
    """Fields that every case has beside `id` and `expected`."""
    blocks: Mapping[str, Callable[[Case], Values]]
    """Block of expected values in a case -> what gives ours. Other blocks are remarks of the file."""
    tokens: Callable[[str], Sequence[str]] | None = None
    """Compared with the case's `tokens`, where it lists them."""


def verify(path: Path) -> list[VerifyRow]:
    """Compute every case of the file and compare; a metric whose extra is missing agrees nowhere and says so.

    Raises:
        DataError: if the file cannot be read, is of another schema, names an unknown metric, or has cases
            without the inputs of their metric; all problems at once.
    """
    metrics = _read(path)
    return [_verify_metric(name, cases) for name, cases in metrics.items()]


def _read(path: Path) -> dict[str, list[Case]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            Problem(where=str(path), found=f"cannot be read: {error}", remedy="give a JSON file in UTF-8")
        ) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA or not isinstance(content.get("metrics"), dict):
        raise DataError(
            Problem(
                where=str(path),
                found=f"the schema is {schema!r}" if schema != SCHEMA else "`metrics` is not a table",
                remedy=f"give a file of the schema {SCHEMA}",
            )
        )
    problems: list[Problem] = []
    found: dict[str, list[Case]] = {}
    for name, entry in content["metrics"].items():
        vector = _vector(name)
        if vector is None:
            remedy = f"known are {', '.join(VECTORS)} and the ids of `tenbin metrics list`"
            problems.append(Problem(where=str(path), found=f"unknown metric {name!r}", remedy=remedy))
            continue
        cases = entry.get("cases") if isinstance(entry, dict) else None
        if not isinstance(cases, list):
            problems.append(
                Problem(where=f"{path}: {name}", found="it has no list of cases", remedy="write `cases`")
            )
            continue
        problems += _case_problems(f"{path}: {name}", vector, cases)
        found[name] = cases
    if problems:
        raise DataError(problems)
    return found


def _case_problems(where: str, vector: Vector, cases: Sequence[Any]) -> Iterator[Problem]:
    for number, case in enumerate(cases):
        needed = ("id", "expected", *vector.inputs)
        missing = [name for name in needed if not isinstance(case, dict) or name not in case]
        if missing:
            yield Problem(
                where=f"{where}[{number}]",
                found=f"the case has no {', '.join(missing)}",
                remedy=f"a case of this metric has {', '.join(needed)}",
            )


def _verify_metric(name: str, cases: Sequence[Case]) -> VerifyRow:
    vector = _vector(name)
    assert vector is not None, name
    agreed = 0
    differences: list[str] = []
    for case in cases:
        try:
            found = list(_differences(vector, case))
        except MissingExtra as error:
            found = [f"{case['id']}: {p.found}; {p.remedy}" for p in error.problems]
        agreed += not found
        differences += found
    return VerifyRow(name, agreed, len(cases), tuple(differences))


def _differences(vector: Vector, case: Case) -> Iterator[str]:
    for block, compute in vector.blocks.items():
        expected = case.get(block)
        if expected is None:
            continue
        values = compute(case)
        if not isinstance(expected, dict):  # a block of one bare value
            expected = {"": expected}
        for key, value in expected.items():
            if key not in values:
                yield f"{case['id']} {block}.{key}: expected {value}, which is not computed here"
            elif not _agree(value, values[key]):
                yield f"{case['id']} {block}.{key}: expected {value}, found {values[key]}"
    if vector.tokens is not None and "tokens" in case:
        yield from _token_differences(vector.tokens, case)


def _token_differences(tokens: Callable[[str], Sequence[str]], case: Case) -> Iterator[str]:
    listed = case["tokens"]
    pairs = [(case["prediction"], listed.get("prediction"))]
    theirs = listed.get("references") or [listed.get("reference")]
    pairs += zip(case["references"], theirs, strict=False)
    for text, expected in pairs:
        # Some peers list the one empty token of an empty text, others none.
        if expected is not None and list(tokens(text)) != [token for token in expected if token]:
            yield f"{case['id']} tokens: expected {expected}, found {list(tokens(text))}"


def _agree(expected: float | str | None, found: float | str | None) -> bool:
    if isinstance(expected, str) or expected is None or isinstance(found, str) or found is None:
        return expected == found
    return abs(expected - found) <= TOLERANCE


# Texts


def _scores(ids: Mapping[str, str], scale: float = 1.0) -> Callable[[Case], Values]:
    """Our metrics under the file's keys, times `scale`."""

    def compute(case: Case) -> Values:
        example = Example(id=str(case["id"]), inputs={}, references=tuple(case["references"]))
        return {key: scale * _score(metric, case["prediction"], example) for key, metric in ids.items()}

    return compute


def _score(metric: str, answer: str | None, example: Example) -> float:
    value = METRICS[metric].score(answer, example)
    assert value is not None, f"{metric} scores every answer"
    return value


def _texts(
    tokens: Callable[[str], Sequence[str]] | None = None, **blocks: Callable[[Case], Values]
) -> Vector:
    return Vector(("prediction", "references"), blocks, tokens)


def _rouge(suffix: str) -> Callable[[Case], Values]:
    return _scores({kind: f"{kind}{suffix}" for kind in ("rouge1", "rouge2", "rougeL")})


def _classification(case: Case) -> Values:
    scored = []
    for number, (reference, answer) in enumerate(zip(case["gold"], case["pred"], strict=True)):
        text = None if answer is None else str(answer)
        example = Example(id=str(number), inputs={}, references=(str(reference),))
        scored.append(Scored(text, example, _score("accuracy", text, example)))
    ids = {"acc": "accuracy", "balanced_acc": "balanced_accuracy", "mcc": "mcc", "macro_f1": "macro_f1"}
    return {key: METRICS[metric].aggregate(scored) for key, metric in ids.items()}


def _first_word(case: Case) -> Values:
    categories = tuple(dict.fromkeys((case["label"], "positive", "negative")))
    return {
        name: float(first_word(categories, strict=name == "strict")(case["generation"]) == case["label"])
        for name in ("strict", "lenient")
    }


# Statistics: an undefined value is null in the file


def _bounds(found: Estimate | stats.Undefined) -> Values:
    if isinstance(found, stats.Undefined):
        return dict.fromkeys(("mean", "stderr", "lower", "upper"))
    return {"mean": found.value, "lower": found.low, "upper": found.high}


def _t_interval(case: Case) -> Values:
    error = stats.standard_error(case["scores"])
    stderr = None if isinstance(error, stats.Undefined) else error
    return {**_bounds(stats.t_interval(case["scores"])), "stderr": stderr}


def _sign_flip(case: Case) -> Values:
    found = stats.sign_flip(case["a"], case["b"])
    if isinstance(found, stats.Undefined):
        return {"mean_diff": None, "p": None}
    return {"mean_diff": found.difference, "p": found.p_value}


def _agreement(found: stats.Agreement | stats.Undefined) -> float | None:
    return None if isinstance(found, stats.Undefined) else found.value


def _kappa(case: Case) -> Values:
    first, second = case["rater_a"], case["rater_b"]
    return {
        "unweighted": _agreement(stats.cohen_kappa(first, second, GRADES)),
        "linear": _agreement(stats.cohen_kappa(first, second, GRADES, weights="linear")),
        "quadratic": _agreement(stats.cohen_kappa(first, second, GRADES, weights="quadratic")),
    }


def _alpha(case: Case) -> Values:
    return {
        "nominal": _agreement(stats.krippendorff_alpha(case["ratings"], scale="nominal")),
        "ordinal": _agreement(stats.krippendorff_alpha(case["ratings"], scale="ordinal")),
        "interval": _agreement(stats.krippendorff_alpha(case["ratings"], scale="interval")),
    }


VECTORS: Mapping[str, Vector] = {
    "jsquad_jglue": _texts(expected=_scores({"em": "jsquad_em", "f1": "jsquad_f1"})),
    "jsquad_jpstable": _texts(jpstable_words, expected=_scores({"em": "jpstable_em", "f1": "jpstable_f1"})),
    "char_f1_llmjpeval": _texts(
        expected=_scores({"char_f1": "similarity_llmjp", "exact_match": "exact_match_llmjp"}),
        expected_without_levenshtein=_scores({"char_f1": "similarity_llmjp_difflib"}),
    ),
    "char_f1_flexeval": _texts(
        expected=_scores({"char_f1": "similarity_flexeval", "exact_match": "exact_match_flexeval"}),
        expected_aio=_scores(
            {"char_f1": "similarity_flexeval_aio", "exact_match": "exact_match_flexeval_aio"}
        ),
    ),
    "set_f1_llmjpeval": _texts(expected=_scores({"set_f1": "set_f1"})),
    "rouge_xlsum": _texts(
        lambda text: rouge_tokens(text, "unidic-lite"), expected=_rouge("_xlsum"), expected_ipadic=_rouge("")
    ),
    "rouge_flexeval": _texts(lambda text: words(text, "ipadic"), expected=_rouge("_flexeval")),
    "rouge2_jpstable": _texts(jpstable_tokens, expected=_scores({"rouge2": "rouge2_jpstable"}, 100.0)),
    "bleu_ja_nejumi": _texts(
        lambda text: words(text, "ipadic"),
        expected=_scores({"bleu": "bleu"}),
        expected_flexeval_sentence=_scores({"": "bleu"}, 100.0),
    ),
    "marc_ja_classification": Vector(("gold", "pred"), {"expected": _classification}),
    "marc_ja_first_word": Vector(("generation", "label"), {"expected": _first_word}),
    "jsquad_postprocess_paper": Vector(
        ("prediction",), {"expected": lambda case: {"text": paper_trim(case["prediction"])}}
    ),
    "stats_mcnemar_exact": Vector(
        ("b", "c"), {"expected": lambda case: {"p": stats.mcnemar(case["b"], case["c"]).p_value}}
    ),
    "stats_wilson_95": Vector(
        ("k", "n"), {"expected": lambda case: _bounds(stats.wilson(case["k"], case["n"]))}
    ),
    "stats_paired_permutation": Vector(("a", "b"), {"expected": _sign_flip}),
    "stats_t_interval_95": Vector(("scores",), {"expected": _t_interval}),
    "stats_cohen_kappa": Vector(("rater_a", "rater_b"), {"expected": _kappa}),
    "stats_krippendorff_alpha": Vector(("ratings",), {"expected": _alpha}),
}


def _vector(name: str) -> Vector | None:
    """The vector of that name; an id of ours stands for itself, with the id as the expected key."""
    if name in VECTORS:
        return VECTORS[name]
    return _texts(expected=_scores({name: name})) if name in METRICS else None
