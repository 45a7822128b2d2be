"""Further: what [rag] and [[judge]] ask beyond the study's own questions, planned for `tenbin plan`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from platformdirs import user_cache_path

from tenbin.config import ModelConfig, resolve_path
from tenbin.config_grading import GradingConfig
from tenbin.config_judge import JudgeConfig
from tenbin.generate.hosted import read_prices
from tenbin.grading.items import Item, collect_items, question_version
from tenbin.grading.settings import SETTINGS, read_settings
from tenbin.grading.store import read_grades
from tenbin.judge.grading import Judging, items_to_judge, to_judge
from tenbin.judge.pairs import pair_prompts
from tenbin.judge.prompt import JudgePrompt
from tenbin.rag.store import RagFolder
from tenbin.report.judging import read_pairs
from tenbin.runs import RunSpec
from tenbin.study.asking_plan import AskingPlan, asking_hosted
from tenbin.study.extras import need_training
from tenbin.study.judging import judging_of, model_of, need_bank
from tenbin.study.planned import Plan, Planned
from tenbin.study.prepare import Prepared, prepare, say_bad_rows
from tenbin.study.rag import plan_rag, rag_prompts
from tenbin.study.run import plan_study
from tenbin.study.screen import Screen, SilentScreen
from tenbin.types import GenerationConfig

UNWRITTEN = "答"
"""Stands for a token of an answer that is not there yet."""
AT_MOST = "for judges an answer that is not there yet counts as long as answers may be, and no two as equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """What one model is asked by one of the study's further parts."""

    part: str
    """`rag`, or `judge <name>`."""
    model: str
    """Short name of who answers."""
    num_systems: int
    """That answer (rag), or whose answers are judged."""
    asking: AskingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """Everything that a study will do."""

    models: tuple[Plan, ...]
    further: tuple[Further, ...]


def plan_whole(
    study_file: Path,
    overrides: Mapping[str, object] | None = None,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    screen: Screen | None = None,
) -> StudyPlan:
    """Plan the study's own questions and what [rag] and [[judge]] ask; loads no weights, sends nothing.

    Raises:
        UserError: everything that is wrong with the study, its data and its models.
    """
    screen = screen or SilentScreen()
    prepared = prepare(study_file, dict(overrides or {}))
    say_bad_rows(prepared, screen)
    cache = cache_dir or user_cache_path("tenbin")
    planned = plan_study(prepared, cache_dir=cache, offline=offline, screen=screen, weights=False)
    further = [*_rag(prepared, planned), *_judges(prepared, planned, cache, offline, screen)]
    return StudyPlan(models=tuple(p.plan for p in planned), further=tuple(further))


def _rag(prepared: Prepared, planned: Sequence[Planned]) -> list[Further]:
    """Of each model the systems that the report will weigh: as it is, and tuned at its best."""
    if prepared.config.rag is None:
        return []
    plan = plan_rag(prepared)
    prompts = rag_prompts(plan)
    kept = RagFolder(prepared.folder, plan.settings)
    found = []
    for model in planned:
        kinds = {spec.kind for spec in model.specs}
        num_done = sum(len(kept.rows(spec.id)) for spec in model.specs)
        asking = model.asking(prepared, prompts, plan.task.generation).times(len(kinds))
        # A service's own answers are known one by one, those of local models by their number.
        asking = asking if model.model.is_hosted else asking.but(num_done)
        found.append(Further(part="rag", model=model.model.label, num_systems=len(kinds), asking=asking))
    return found


def _judges(
    prepared: Prepared, planned: Sequence[Planned], cache_dir: Path, offline: bool, screen: Screen
) -> list[Further]:
    """Of each judge the grades that are not there yet, and its comparisons of every two systems."""
    need_bank(prepared)
    specs = [spec for model in planned for spec in model.specs]
    found = []
    for judge in prepared.config.judge:
        model = model_of(judge)
        how = judging_of(judge, _settings(prepared).scale)
        plan = partial(_ask_judge, prepared, judge, cache_dir=cache_dir, offline=offline, screen=screen)
        items = items_to_judge(_items(prepared, specs), calibrate=judge.calibrate)
        asked = [prompt for _, _, prompt in to_judge(items, how, read_grades(prepared.folder.path))]
        grades = plan(asked)
        kept = how.repeats * len(items) - len(asked)
        grades = replace(grades, num_cached=grades.num_cached + kept)
        found.append(_further(f"judge {model.label}", model, len(specs), grades))
        if judge.pairs and (twins := _pairs(prepared, items, how)):
            number, prompts = twins
            found.append(
                _further(f"judge {model.label}, pairs", model, len(specs), plan(prompts).times(number))
            )
    return found


def _further(part: str, model: ModelConfig, num_systems: int, asking: AskingPlan) -> Further:
    asking = replace(asking, notes=(*asking.notes, AT_MOST))
    return Further(part=part, model=model.label, num_systems=num_systems, asking=asking)


def _settings(prepared: Prepared) -> GradingConfig:
    """As a later `tenbin grade import --adjudicator` may have changed them, else the study file's."""
    kept = (prepared.folder.path / SETTINGS).exists()
    return read_settings(prepared.folder) if kept else prepared.config.grading


def _items(prepared: Prepared, specs: Sequence[RunSpec]) -> list[Item]:
    """The answers of finished runs, and for every other run one of the greatest length to each question."""
    runs = [prepared.folder.run(spec) for spec in specs]
    items = list(collect_items([run for run in runs if run.done]))
    task = prepared.task
    assert task.question is not None, "judges are of question banks"
    for number, run in enumerate(runs):
        if run.done:
            continue
        for example in prepared.dataset(prepared.report_on).examples:
            fields = task.question(example)
            items.append(
                Item(
                    question=example.id,
                    version=question_version(fields, example.references),
                    answer=f"{number}{UNWRITTEN * task.generation.max_new_tokens}",
                    extracted=None,
                    fields=fields,
                    references=example.references,
                    systems=(run.path.name,),
                )
            )
    return items


def _pairs(prepared: Prepared, items: Sequence[Item], how: Judging) -> tuple[int, list[JudgePrompt]] | None:
    """(pairs of systems not compared yet, the prompts of one of them); None where all are."""
    kept = read_pairs(prepared.folder)
    known = {(p.first, p.second) for p in kept if (p.judge, p.source) == (how.grader, how.source)}
    systems = sorted({system for item in items for system in item.systems})
    missing = [pair for pair in combinations(systems, 2) if pair not in known]
    if not missing:
        return None
    first, second = ({i.question: i for i in items if system in i.systems} for system in missing[0])
    both = [(first[question], second[question]) for question in first if question in second]
    return len(missing), [prompt for a, b in both if a is not b for prompt in pair_prompts(a, b, how)]


def _ask_judge(
    prepared: Prepared,
    judge: JudgeConfig,
    prompts: Sequence[JudgePrompt],
    *,
    cache_dir: Path,
    offline: bool,
    screen: Screen,
) -> AskingPlan:
    config, model = GenerationConfig(max_new_tokens=judge.max_new_tokens), model_of(judge)
    messages = [prompt.messages for prompt in prompts]
    if model.is_hosted:
        file = prepared.config.budget.prices
        prices = read_prices(None if file is None else resolve_path(file, prepared.study_file))
        return asking_hosted(model, prepared.folder.path, messages, config, prices)
    need_training()
    from tenbin.study.judging_local import plan_judge

    return plan_judge(
        model,
        messages,
        config,
        chat=judge.chat,
        base=prepared.study_file.parent,
        cache_dir=cache_dir,
        offline=offline,
        screen=screen,
    )
