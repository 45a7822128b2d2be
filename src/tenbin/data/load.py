"""From the [data] section of a study to its train, validation and test sets."""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenbin.config import DataConfig, SplitConfig
from tenbin.data.dataset import Dataset
from tenbin.data.examples import CATEGORY
from tenbin.data.fields import HUB, Check
from tenbin.data.readers import ReadResult, read_examples
from tenbin.data.repeats import once_a_value
from tenbin.data.splits import Splits, Stratum, draw, split_examples
from tenbin.errors import DataError, Problem
from tenbin.types import Example, SplitName

SETS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(slots=True)
class _Gathered:
    """What the files of a study gave so far."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bad_rows: list[Problem] = field(default_factory=list)
    num_bad_rows: int = 0
    left_out: dict[str, Mapping[str, int]] = field(default_factory=dict)


def load_dataset(
    config: DataConfig,
    *,
    base: Path,
    input_fields: Sequence[str],
    target_field: str,
    optional_fields: Sequence[str] = (),
    target_required: bool = True,
    group_field: str | None = None,
    groups_together: bool = True,
    marking_fields: Sequence[str] = (),
    check: Check | None = None,
) -> Splits:
    """Read every file of a study, check the rows, and make its sets.

    Sets without a file of their own are taken from `train` by `config.split`. Without `split`, the default
    shares are used for both when neither has a file, and for validation when only test has one; with a
    validation file alone there is no test set.

    Args:
        config: the [data] section.
        base: folder of the study file, which relative paths start from.
        input_fields: fields that every example must have (those of the prompt template).
        target_field: field of the references: `category`, `answer`, `summary`, `reference`.
        optional_fields: fields that become "" where a file has none.
        target_required: False: examples without a reference are kept, unlabeled.
        group_field: what makes a group unless the study names a column; see `read_examples`.
        groups_together: False: groups are strata of a split, not units that stay in one set (a question
            bank's categories). A `group_by` of the study always keeps groups together.
        marking_fields: fields that no prompt shows and `Example.marking` keeps.
        check: what else is a mistake in an example; see `read_examples`.

    Raises:
        DataError: with every problem of every file.
        MissingExtra: a file is `hf:NAME` and the package `datasets` is not installed.
    """
    gathered = _Gathered()
    gathered.problems += _check_mapping(
        config, [*input_fields, *optional_fields, target_field, *marking_fields]
    )

    def read(text: str, name: str, categories: Sequence[str] | None, is_train: bool) -> ReadResult:
        return read_examples(
            text if text.startswith(HUB) else _path(text, base),
            input_fields=input_fields,
            target_field=target_field,
            config=config,
            optional_fields=optional_fields,
            target_required=target_required,
            group_field=group_field,
            group_required=is_train,
            marking_fields=marking_fields,
            check=check,
            categories=categories,
            name=name,
        )

    results, categories = _read_files(config, target_field, gathered, read)
    explicit_group = bool((config.split and config.split.group_by) or config.columns.get("group"))
    return _splits(config, results, categories, target_field, groups_together or explicit_group, gathered)


def _read_files(
    config: DataConfig,
    target_field: str,
    gathered: _Gathered,
    read: Callable[[str, str, Sequence[str] | None, bool], ReadResult],
) -> tuple[dict[SplitName, ReadResult], tuple[str, ...]]:
    """What every file of the study gave, and the categories.

    Raises:
        DataError: with every problem gathered.
    """
    names = _names(config)
    results: dict[SplitName, ReadResult] = {
        "train": read(config.train, names["train"], config.categories, True)
    }
    categories = _categories(config, results["train"]) if target_field == CATEGORY else ()
    if config.validation is not None:
        results["validation"] = read(config.validation, names["validation"], categories or None, False)
    if config.test is not None:
        results["test"] = read(config.test, names["test"], categories or None, False)
    for name, result in results.items():
        _gather(gathered, result, names[name], config.skip_bad_rows)
    if gathered.problems:
        raise DataError(once_a_value(gathered.problems))
    return results, categories


def _splits(
    config: DataConfig,
    results: Mapping[SplitName, ReadResult],
    categories: tuple[str, ...],
    target_field: str,
    together: bool,
    gathered: _Gathered,
) -> Splits:
    stratum = _stratum(target_field, together)
    examples = _make_sets(config, results, stratum, together, gathered.notes)
    _limit(config, examples, stratum, gathered.notes)
    sets = {name: Dataset.of(name, items) for name, items in examples.items()}
    return Splits(
        train=sets["train"],
        validation=sets.get("validation"),
        test=sets.get("test"),
        categories=categories,
        columns=results["train"].columns,
        notes=tuple(gathered.notes),
        left_out=gathered.left_out,
        bad_rows=tuple(gathered.bad_rows),
        num_bad_rows=gathered.num_bad_rows,
        groups_together=together,
    )


def _gather(gathered: _Gathered, result: ReadResult, name: str, skip: bool) -> None:
    gathered.notes += [note for note in result.notes if note not in gathered.notes]
    if result.left_out:
        gathered.left_out[name] = result.left_out
    gathered.problems += result.file_errors
    if not skip:
        gathered.problems += result.row_errors
        return
    gathered.bad_rows += result.row_errors
    gathered.num_bad_rows += result.num_bad_rows
    if result.num_bad_rows:
        gathered.notes.append(
            f"{name}: {result.num_bad_rows:,} rows with errors left out by data.skip_bad_rows"
        )
        if not result.examples and not result.file_errors:
            gathered.problems += result.row_errors  # nothing is left to go on with


def _path(text: str, base: Path) -> Path:
    path = Path(os.path.expandvars(text)).expanduser()
    return path if path.is_absolute() else base / path


def _names(config: DataConfig) -> dict[SplitName, str]:
    """How the files are called in messages: by their last part, or in full where two have the same."""
    texts = {name: getattr(config, name) for name in SETS if getattr(config, name)}
    short = {name: text if text.startswith(HUB) else Path(text).name or text for name, text in texts.items()}
    clash = len(set(short.values())) < len(set(texts.values()))
    return texts if clash else short


def _check_mapping(config: DataConfig, fields: Sequence[str]) -> list[Problem]:
    """Names in `data.columns` that look like a slip, and labels that are not categories."""
    problems = []
    known = [*fields, "id", "group"]
    for name in config.columns:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        if name not in known and near:
            found = f"this study has no field {name!r}"
            remedy = f"did you mean {near[0]!r}? there are {', '.join(known)}"
            problems.append(Problem(where=f"data.columns.{name}", found=found, remedy=remedy))
    for value, category in (config.labels or {}).items():
        if config.categories is not None and category not in config.categories:
            near = difflib.get_close_matches(category, config.categories, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(config.categories)}"
            found = f"{category!r} is not one of data.categories"
            problems.append(Problem(where=f"data.labels.{value}", found=found, remedy=hint))
    return problems


def _categories(config: DataConfig, train: ReadResult) -> tuple[str, ...]:
    """The study's categories, in its order; without one, those of the training rows, sorted."""
    if config.categories is not None:
        return tuple(config.categories)
    present = {example.references[0] for example in train.examples if example.references}
    if config.labels is not None:
        return tuple(dict.fromkeys(category for category in config.labels.values() if category in present))
    return tuple(sorted(present))


def _stratum(target_field: str, together: bool) -> Stratum | None:
    if target_field == CATEGORY:
        return lambda example: example.references[0] if example.references else ""
    return None if together else lambda example: example.group or ""


def _make_sets(
    config: DataConfig,
    results: Mapping[SplitName, ReadResult],
    stratum: Stratum | None,
    together: bool,
    notes: list[str],
) -> dict[SplitName, Sequence[Example]]:
    sets: dict[SplitName, Sequence[Example]] = {name: result.examples for name, result in results.items()}
    split = config.split or SplitConfig()
    missing: tuple[SplitName, ...] = tuple(name for name in SETS[1:] if name not in sets)
    if config.split is None and missing == ("test",):
        notes.append("there is no test set: the validation set both chooses and reports")
        return sets
    wanted = {"validation": split.validation, "test": split.test}
    shares: dict[SplitName, float] = {name: wanted[name] for name in missing if wanted[name] > 0}
    if not shares:
        return sets
    parts = split_examples(
        sets["train"],
        {"train": 1 - sum(shares.values()), **shares},
        seed=split.seed,
        stratum=stratum,
        keep_groups=together,
    )
    sets.update(parts)
    counts = ", ".join(f"{name} {len(parts[name]):,}" for name in SETS if name in parts)
    by_default = "" if config.split else " (default shares)"
    notes.append(f"split from train with seed {split.seed}{by_default}: {counts}")
    return {name: sets[name] for name in SETS if name in sets}


def _limit(
    config: DataConfig, sets: dict[SplitName, Sequence[Example]], stratum: Stratum | None, notes: list[str]
) -> None:
    seed = (config.split or SplitConfig()).seed
    for name, limit in config.limit.items():
        if name not in sets or limit >= len(sets[name]):
            continue
        total = len(sets[name])
        sets[name] = draw(sets[name], limit, seed=seed, stratum=stratum)
        notes.append(f"{name}: {limit:,} of {total:,} examples, drawn with seed {seed} (data.limit)")
