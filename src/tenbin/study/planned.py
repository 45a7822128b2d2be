"""Planned: a model of the study, found and planned, not loaded; from here local and hosted look alike."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from tenbin.config import ModelConfig
from tenbin.data.inspection import TokenCounter
from tenbin.runs import Run, RunResult, RunSpec
from tenbin.study.asking_plan import AskingPlan
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen
from tenbin.types import GenerationConfig, JsonValue, Message


class Plan(Protocol):
    """What one model of the study will do."""

    @property
    def model(self) -> str:
        """Short name of the model."""
        ...

    def to_json(self) -> Mapping[str, JsonValue]:
        """For plan.json and the report."""
        ...


class Planned(Protocol):
    """One model of the study and its runs."""

    @property
    def model(self) -> ModelConfig:
        """As the study file says it."""
        ...

    @property
    def plan(self) -> Plan:
        """What it will do."""
        ...

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """Its runs, done or not."""
        ...

    @property
    def token_counter(self) -> TokenCounter | None:
        """Tokens of texts; None where the tokenizer is not to be had."""
        ...

    def asking(
        self, prepared: Prepared, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> AskingPlan:
        """What other questions than the study's own would take of it; loads and sends nothing."""
        ...

    def is_done(self, run: Run) -> bool:
        """Whether nothing is left to do of a run."""
        ...

    def work(self, prepared: Prepared, runs: Sequence[Run], screen: Screen) -> Iterator[RunResult]:
        """Do these runs, which are not done yet, in this order; what is loaded is loaded here."""
        ...
