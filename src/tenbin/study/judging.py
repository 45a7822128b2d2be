"""Judging of a study: opens each judge, asks for the missing grades, keeps them, counts points anew."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from pydantic import ValidationError

from tenbin.config import ModelConfig, StudyConfig, read_study, resolve_path, study_folder
from tenbin.config_hosted import parse_money
from tenbin.config_judge import JudgeConfig
from tenbin.config_problems import config_problems
from tenbin.config_vllm import VllmSection
from tenbin.errors import ConfigError, DataError, Problem
from tenbin.generate.hosted import Prices, Spending, open_hosted, read_prices
from tenbin.generate.vllm import find_command
from tenbin.grading.folder import gradable_items
from tenbin.grading.items import Item, finished_runs
from tenbin.grading.scores import apply_grades
from tenbin.grading.settings import read_settings
from tenbin.grading.store import Grade, append_grades, latest, now, read_grades
from tenbin.judge.calibration import Calibration, calibrate, judges_of
from tenbin.judge.grading import Judging, items_to_judge, judge_items
from tenbin.judge.pairs import PairResult, judge_pair
from tenbin.report import write_report
from tenbin.report.judging import SETTINGS, pairs_file, read_pairs
from tenbin.runs import StudyFolder, alone, write_json
from tenbin.study.extras import need_training
from tenbin.study.later import Later
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen, SilentScreen
from tenbin.types import Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What it takes to open a judge."""

    base: Path
    """Folder that relative paths of a local judge start from."""
    max_cost: str | float | None = None
    """Of hosted judges together."""
    prices: Path | None = None
    cache_dir: Path | None = None
    offline: bool = False
    vram_mib: int | None = None
    """Cap on a judge that vLLM serves."""
    ending: ExitStack = field(default_factory=ExitStack)
    """Ends the servers that were started for judges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a judge did."""

    calibration: Calibration
    pairs: tuple[PairResult, ...]


def judge_any(
    path: Path,
    judge: Mapping[str, Any] | None = None,
    *,
    overrides: Mapping[str, object] | None = None,
    max_cost: str | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> tuple[Judged, ...]:
    """Judge the answers of a study, and write its report again. Goes on where it stopped.

    Args:
        path: a study file, whose [[judge]] tables are used unless `judge` is given; or a study folder.
        judge: keys of a [[judge]]; paths in it are relative to the working folder.
        overrides: of the study file.
        max_cost: of hosted judges, instead of the study's.

    Raises:
        UserError: everything that is wrong.
    """
    screen = screen or SilentScreen()
    opening = Opening(base=Path(), max_cost=max_cost, cache_dir=cache_dir, offline=offline)
    judges = [_checked(judge)] if judge is not None else []
    if path.suffix == ".toml":
        config = read_study(path, overrides)
        study = StudyFolder(study_folder(config, path))
        judges = judges or list(config.judge)
        opening = _opening(config, path, max_cost, cache_dir=cache_dir, offline=offline)
        opening = replace(opening, base=Path()) if judge is not None else opening
    else:
        study = StudyFolder(path)
    if not judges:
        remedy = "name one: --model openai:NAME, or a [[judge]] in the study file"
        raise ConfigError(Problem(where=str(path), found="no judge is named", remedy=remedy))
    if not (study.path / "runs").is_dir():
        remedy = "name the folder that `tenbin run` or `tenbin eval` wrote, or its study file"
        raise DataError(Problem(where=str(study.path), found="this is no study folder", remedy=remedy))
    with alone(study.path):
        found = judge_study(study, judges, opening, screen)
        write_report(study)
    return found


def check_judges(prepared: Prepared, *, offline: bool, screen: Screen) -> None:
    """Refuse, before hours of training, judges that could not be asked after it.

    Raises:
        ConfigError: the task is no question bank.
        UserError: a judge that has not graded here yet cannot be reached: no key, offline, no vLLM.
    """
    config = prepared.config
    need_bank(prepared)
    known = judges_of(read_grades(prepared.folder.path))
    opening = _opening(config, prepared.study_file, None, cache_dir=None, offline=offline)
    for judge in config.judge:
        model = model_of(judge)
        if model.is_hosted and model.label not in known:
            prices = read_prices(opening.prices)
            _open(judge, prepared.folder, opening, (prices, Spending(None, prices)), screen)
        if model.is_vllm and model.label not in known:
            find_command((model.vllm or VllmSection()).command, f"judge {model.label}", opening.base)


def need_bank(prepared: Prepared) -> None:
    """Refuse judges of anything else.

    Raises:
        ConfigError: the task is no question bank.
    """
    config, where = prepared.config, prepared.study_file.name
    if config.judge and config.task != "question_bank":
        found = f"judges grade answers to a question bank, and the task is {config.task}"
        remedy = "take the [[judge]] tables out"
        raise ConfigError(Problem(where=f"{where}: judge", found=found, remedy=remedy))


def judge_prepared(
    prepared: Prepared, *, cache_dir: Path | None, offline: bool, screen: Screen
) -> tuple[Judged, ...]:
    """Judge a study that has just been run, in its locked folder; writes no report."""
    opening = _opening(prepared.config, prepared.study_file, None, cache_dir=cache_dir, offline=offline)
    return judge_study(prepared.folder, prepared.config.judge, opening, screen)


def _opening(
    config: StudyConfig, study_file: Path, max_cost: str | None, *, cache_dir: Path | None, offline: bool
) -> Opening:
    budget = config.budget
    return Opening(
        base=study_file.parent,
        max_cost=budget.max_cost if max_cost is None else max_cost,
        prices=None if budget.prices is None else resolve_path(budget.prices, study_file),
        cache_dir=cache_dir,
        offline=offline,
        vram_mib=budget.vram_mib,
    )


def judge_study(
    study: StudyFolder, judges: Sequence[JudgeConfig], opening: Opening, screen: Screen
) -> tuple[Judged, ...]:
    """The same within a study folder that is locked already; writes no report.

    Raises:
        DataError: there is no answer that a judge may grade.
    """
    screen.stage("judge")
    apply_grades(study)
    items = gradable_items(study, finished_runs(study))
    found = []
    prices = read_prices(opening.prices)
    limit = parse_money(opening.max_cost) if opening.max_cost is not None else None
    spending = Spending(limit, prices)
    for config in judges:
        model = model_of(config)
        wanted = items_to_judge(items, calibrate=config.calibrate)
        if not wanted:
            remedy = "set grade = judge (or people, to calibrate) in the rows of the bank"
            raise DataError(Problem(where=str(study.path), found="no question is for a judge", remedy=remedy))
        opened = partial(_open, config, study, opening, (prices, spending), screen)
        judge = Later(model.label, opened, screen)
        with opening.ending:
            found.append(_judge_one(study, config, judge, items, wanted, screen))
    return tuple(found)


def model_of(config: JudgeConfig) -> ModelConfig:
    """The judge as a model of a study."""
    keys = ("source", "name", "tokenizer", "hosted", "vllm")
    return ModelConfig(**{key: getattr(config, key) for key in keys})


def _checked(judge: Mapping[str, Any]) -> JudgeConfig:
    try:
        return JudgeConfig.model_validate(judge)
    except ValidationError as error:
        raise ConfigError(config_problems(error, JudgeConfig, "judge")) from None


def _open(
    config: JudgeConfig, study: StudyFolder, opening: Opening, purse: tuple[Prices, Spending], screen: Screen
) -> Generator:
    model = model_of(config)
    if model.is_hosted:
        return open_hosted(
            model, study.path, prices=purse[0], spending=purse[1], offline=opening.offline, say=screen.say
        )
    need_training()
    from tenbin.study.judging_local import open_judge, open_served_judge

    how: dict[str, Any] = {
        "chat": config.chat,
        "base": opening.base,
        "cache_dir": opening.cache_dir or user_cache_path("tenbin"),
        "offline": opening.offline,
        "screen": screen,
    }
    if not model.is_vllm:
        return open_judge(model, **how)
    served = open_served_judge(model, study.path, vram_mib=opening.vram_mib, **how)
    return opening.ending.enter_context(served)


def _judge_one(
    study: StudyFolder,
    config: JudgeConfig,
    judge: Generator,
    items: Sequence[Item],
    wanted: Sequence[Item],
    screen: Screen,
) -> Judged:
    how = judging_of(config, read_settings(study).scale)
    given = read_grades(study.path)
    _write_settings(study, how, config)
    _withdraw_more_repeats(study, given, how, wanted)

    def keep(grade: Grade) -> None:
        append_grades(study.path, [grade])

    with screen.bar(f"{how.grader}: grades", how.repeats * len(wanted), "judgement") as bar:
        judge_items(wanted, judge, how, given=given, keep=keep, on_progress=lambda done, _: bar.update(done))
    pairs = _judge_pairs(study, wanted, judge, how, screen) if config.pairs else ()
    apply_grades(study)
    calibration = calibrate(
        how.grader,
        items,
        read_grades(study.path),
        min_human=config.min_human,
        min_kappa=config.min_kappa,
    )
    return Judged(calibration=calibration, pairs=pairs)


def judging_of(config: JudgeConfig, scale: Sequence[float]) -> Judging:
    """How a judge of the study is asked."""
    model = model_of(config)
    return Judging(
        grader=model.label,
        scale=tuple(sorted(scale)),
        repeats=config.repeats,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        chat=config.chat and not model.is_hosted,
    )


def _withdraw_more_repeats(
    study: StudyFolder, given: Sequence[Grade], how: Judging, wanted: Sequence[Item]
) -> None:
    """Say of repeats beyond those asked for, from an earlier setting, that they count no more."""
    keys = {item.key for item in wanted}
    extra = [
        replace(grade, grade=None, reason="withdrawn: fewer repeats are asked for", time=now())
        for grade in latest(given)
        if grade.kind == "judge"
        and grade.grader == how.grader
        and grade.key in keys
        and grade.repeat >= how.repeats
        and grade.grade is not None
    ]
    append_grades(study.path, extra)


def _judge_pairs(
    study: StudyFolder, items: Sequence[Item], judge: Generator, how: Judging, screen: Screen
) -> tuple[PairResult, ...]:
    """Every two systems side by side; what was judged under the same settings is kept."""
    systems = sorted({system for item in items for system in item.systems})
    old = {(pair.first, pair.second, pair.judge): pair for pair in read_pairs(study)}
    found = []
    for position, first in enumerate(systems):
        for second in systems[position + 1 :]:
            known = old.get((first, second, how.grader))
            if known is not None and known.source == how.source and not known.count("error"):
                found.append(known)
                continue
            with screen.bar(f"{how.grader}: {first} and {second}", 1, "pair") as bar:
                found.append(judge_pair(first, second, items, judge, how))
                bar.update(1)
            others = [pair for pair in old.values() if pair.judge != how.grader]
            write_json(pairs_file(study), [pair.to_json() for pair in (*others, *found)])
    return tuple(found)


def _write_settings(study: StudyFolder, how: Judging, config: JudgeConfig) -> None:
    """Keep what the report needs to say how far the judge is to be leant on."""
    path = study.path / SETTINGS
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = {"min_human": config.min_human, "min_kappa": config.min_kappa, "source": how.source}
    write_json(path, {**old, how.grader: new})
