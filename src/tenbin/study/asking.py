"""Asking: opens the systems of a study again, to put other questions to them than the study's own."""

from collections.abc import Generator as Yielding
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tenbin.errors import ConfigError, Problem
from tenbin.generate.hosted import open_hosted
from tenbin.runs import Run
from tenbin.study.extras import need_training
from tenbin.study.hosted import Purse, open_purse
from tenbin.study.later import Later
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen
from tenbin.types import Generator


def open_systems(
    prepared: Prepared,
    runs: Sequence[Run],
    *,
    cache_dir: Path,
    offline: bool,
    screen: Screen,
) -> Yielding[tuple[Run, Generator], None, None]:
    """Yield each run with the generator that answers as its system does; a model is loaded once for its runs.

    Each generator is good until the next one is taken; close this one to end a server that tenbin started.

    Raises:
        ConfigError: runs of models that the study file does not name, all of them.
        UserError: what is wrong with a model.
    """
    models = {model.label: model for model in prepared.config.model}
    unknown = sorted({run.spec.model for run in runs} - models.keys())
    if unknown:
        raise ConfigError(
            [
                Problem(
                    where=f"{prepared.study_file.name}: model",
                    found=f"the study folder has a run of {name}, which the study file does not name",
                    remedy="add the [[model]] again, or name the runs to ask",
                )
                for name in unknown
            ]
        )
    purse: Purse | None = None
    for label, model in models.items():
        mine = [run for run in runs if run.spec.model == label]
        if not mine:
            continue
        if model.is_hosted:
            purse = purse or open_purse(prepared)
            opened = partial(
                open_hosted,
                model,
                prepared.folder.path,
                prices=purse.prices,
                spending=purse.spending,
                offline=offline,
                say=screen.say,
            )
            yield from ((run, Later(run.spec.label, opened, screen)) for run in mine)
            continue
        need_training()
        if model.is_vllm:
            from tenbin.study.vllm import open_vllm

            yield from open_vllm(prepared, model, mine, cache_dir=cache_dir, offline=offline, screen=screen)
            continue
        from tenbin.study.asking_local import open_local

        yield from open_local(prepared, model, mine, cache_dir=cache_dir, offline=offline, screen=screen)
