"""study.toml: its sections, read strictly. Every mistake is named by the key's path, all at once."""

import os
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from tenbin.config_contamination import ContaminationConfig
from tenbin.config_grading import GradingConfig
from tenbin.config_hosted import HostedSection, MoneyText, hosted_mistakes, hosted_source, is_hosted
from tenbin.config_judge import JudgeConfig
from tenbin.config_problems import config_problems
from tenbin.config_rag import RagConfig
from tenbin.config_section import Section
from tenbin.config_training import LoraConfig as LoraConfig
from tenbin.config_training import TrainingConfig as TrainingConfig
from tenbin.config_vllm import PREFIX, VllmSection, is_vllm, vllm_mistakes
from tenbin.errors import ConfigError, Problem

TaskName = Literal["classification", "reading", "summarization", "question_bank"]


class BudgetConfig(Section):
    """[budget]: what the study may use."""

    vram_mib: int | None = Field(default=None, gt=0)
    """Hard cap on everything the process holds on the GPU, in MiB. None = all the GPU has."""
    host_mib: int | None = Field(default=None, ge=0)
    """Most of the computer's memory that training may lock, in MiB, for products that blocks would otherwise
    make twice. None = half of what is free. Inputs that leave as the last resort come on top."""
    max_cost: MoneyText | None = None
    """Most that the hosted models may cost together in this study folder, "5 USD" or "800 JPY"."""
    prices: str | None = None
    """Price file of hosted models; tenbin's own examples without it."""


class SplitConfig(Section):
    """[data.split]: shares of the rows to take away from `train` for the other sets."""

    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    group_by: str | None = None
    """Column whose equal values stay in one set."""
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self


class DataConfig(Section):
    """[data]: files and how their columns become fields of the task."""

    train: str
    validation: str | None = None
    test: str | None = None
    split: SplitConfig | None = None
    """Taken from `train` for the sets that have no file of their own."""
    columns: dict[str, str] = Field(default={})
    """Field of the task -> column of the file. Fields that are not named keep their name."""
    labels: dict[str, str] | None = None
    """Classification: value in the file -> category; rows with any other value are left out and counted."""
    categories: list[str] | None = Field(default=None, min_length=2)
    """Classification: the allowed categories; without it, those of the training rows."""
    sheet: str | None = None
    """XLSX: name of the sheet; the first one without it."""
    encoding: str | None = None
    """Text files: detected without it."""
    limit: dict[Literal["train", "validation", "test"], Annotated[int, Field(ge=1)]] = Field(default={})
    """Use only so many examples of a set, drawn with the split's seed; said in the report."""
    too_long: Literal["error", "leave_out", "cut"] = "error"
    """Examples longer than max_length (training) or max_input_tokens (evaluation): refuse them, leave them
    out, or cut the end of their longest input. What was left out or cut is counted in plan and report."""
    skip_bad_rows: bool = False
    """Leave rows with errors out, count and list them in the study folder."""

    @model_validator(mode="after")
    def _split_or_files(self) -> "DataConfig":
        if self.validation and self.test and self.split is not None:
            raise ValueError("split has nothing to do: validation and test have files of their own")
        return self


class ModelConfig(Section):
    """[[model]]: one candidate."""

    source: str = Field(min_length=1)
    """Hub name, folder, .gguf file, `vllm:` before one of these, or a hosted model: openai:MODEL,
    azure:DEPLOYMENT, http://HOST/v1#MODEL."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Short name for tables and folders; from the source without it."""
    tokenizer: str | None = None
    """Folder or hub name, where it is not the model's own."""
    hosted: HostedSection | None = None
    """Only of a hosted model."""
    vllm: VllmSection | None = None
    """Only of a model that vLLM serves on this machine."""

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> "ModelConfig":
        mistakes = hosted_mistakes(self.source, self.hosted, self.tokenizer)
        mistakes += vllm_mistakes(self.source, self.vllm)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def is_hosted(self) -> bool:
        """Whether others run it."""
        return is_hosted(self.source)

    @property
    def is_vllm(self) -> bool:
        """Whether vLLM runs it, on this machine."""
        return is_vllm(self.source)

    @property
    def is_own(self) -> bool:
        """Whether tenbin itself loads it, and can tune it."""
        return not self.is_hosted and not self.is_vllm

    @property
    def local_source(self) -> str:
        """Of a model on this machine: hub name, folder or .gguf file."""
        return self.source.removeprefix(PREFIX)

    @property
    def label(self) -> str:
        """Short name for tables and folders."""
        if self.name:
            return self.name
        stem = hosted_source(self.source).model if self.is_hosted else self.local_source
        stem = stem.replace("\\", "/").rstrip("/").split("/")[-1]
        stem = stem.removesuffix(".gguf")
        return "".join(c if c.isalnum() or c in "._-" else "-" for c in stem) or "model"


class PromptConfig(Section):
    """[prompt]: how a question is put to the model."""

    preset: Literal["plain", "paper"] = "plain"
    template: str | None = None
    """Own template with $field placeholders and one $response; replaces the preset."""
    chat: bool = False
    """Put the prompt into the model's own chat template as one user message."""


class GenerationSection(Section):
    """[generation]: how answers are decoded."""

    max_new_tokens: int | None = Field(default=None, ge=1)
    """The task's own limit without it."""
    max_input_tokens: int | None = Field(default=None, ge=1)
    """Longest prompt in evaluation; what the model's positions leave without it."""
    batch_size: int | None = Field(default=None, ge=1)
    """Most answers of a local model written at once; 512 without it."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Most prompt and answer tokens of a local model held at once; what the memory allows without it."""


class EvaluationConfig(Section):
    """[evaluation]: what is compared and how sure one wants to be."""

    base_model: bool = True
    """Also evaluate every model without an adapter."""
    level: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the confidence intervals."""
    answer_by: Literal["text", "likelihood", "likelihood_per_token", "likelihood_per_character"] = "text"
    """Of local models and questions with choices: what is decoded, or the most likely choice."""


class StudyConfig(Section):
    """A whole study file."""

    name: str = Field(pattern=r"^[\w.-]+$")
    task: TaskName
    output: str | None = None
    """Study folder; `runs/<name>` beside the file without it."""
    budget: BudgetConfig = BudgetConfig()
    data: DataConfig
    model: list[ModelConfig] = Field(min_length=1)
    prompt: PromptConfig = PromptConfig()
    lora: LoraConfig = LoraConfig()
    training: TrainingConfig = TrainingConfig()
    generation: GenerationSection = GenerationSection()
    evaluation: EvaluationConfig = EvaluationConfig()
    grading: GradingConfig = GradingConfig()
    judge: list[JudgeConfig] = Field(default=[])
    rag: RagConfig | None = None
    """Without it, `tenbin rag` uses the defaults and `tenbin run` asks nothing of the kind."""
    contamination: ContaminationConfig | None = None
    """The same of `tenbin contamination`."""

    @model_validator(mode="after")
    def _name_is_a_folder(self) -> "StudyConfig":
        if not self.name.strip(".") or len(self.name) > 100:
            raise ValueError("name becomes a folder: letters, digits, _ . - and not dots alone, at most 100")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> "StudyConfig":
        labels = [model.label for model in self.model]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(
                f"model: {', '.join(twice)} is there twice; give each [[model]] a name of its own"
            )
        return self

    def to_toml(self) -> str:
        """The resolved study, every default written out, as TOML (keys without a value are left out)."""
        return tomli_w.dumps(_without_none(self.model_dump(mode="json")))


def _without_none(value: Any) -> Any:  # noqa: ANN401  (JSON of any shape)
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def read_study(path: Path, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """Read a study file.

    Args:
        path: the TOML file.
        overrides: dotted key -> value, put in before checking (`--set training.epochs=2`).

    Raises:
        ConfigError: naming every key that is wrong, with a "did you mean" for unknown ones.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            Problem(where=str(path), found="there is no such file", remedy="`tenbin init` writes one")
        ) from None
    except OSError as error:
        inside = path / "study.toml"
        remedy = f"did you mean {inside}?" if inside.exists() else "name a study file"
        raise ConfigError(
            Problem(where=str(path), found=f"cannot be read: {error.strerror}", remedy=remedy)
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            Problem(
                where=str(path),
                found=f"byte 0x{error.object[error.start]:02x} at {error.start} is not UTF-8",
                remedy="save the study file as UTF-8",
            )
        ) from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            Problem(where=str(path), found=f"not TOML: {error}", remedy="mend the line; see https://toml.io")
        ) from None
    return parse_study(put_all(raw, overrides or {}), where=path.name)


def put_all(raw: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a study with values put in: dotted key -> value.

    Raises:
        ConfigError: keys that have no place there, all of them.
    """
    problems = [
        Problem(where=f"--set {key}", found=found, remedy="write the key's path as in the study file")
        for key, value in overrides.items()
        if (found := _put(raw, key, value))
    ]
    if problems:
        raise ConfigError(problems)
    return raw


def parse_study(raw: Mapping[str, Any], where: str = "study") -> StudyConfig:
    """Check the tables of a study; `where` names the file in errors.

    Raises:
        ConfigError: see `read_study`.
    """
    try:
        return StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(config_problems(error, StudyConfig, where)) from None


def _put(raw: dict[str, Any], dotted: str, value: object) -> str | None:
    """Put a value in at its path; what keeps it from having a place there."""
    table: Any = raw
    keys = dotted.split(".")
    last = keys[-1]
    for key, following in pairwise(keys):
        if isinstance(table, list):
            if not key.isdigit() or int(key) >= len(table):
                return f"there is no number {key}: it holds {len(table)}, counted from 0"
            table = table[int(key)]
        else:
            table = table.setdefault(key, {})
        if not isinstance(table, dict | list):
            return f"`{key}` is a value and holds no `{following}`"
    if isinstance(table, list):
        if not last.isdigit() or int(last) >= len(table):
            return f"there is no number {last}: it holds {len(table)}, counted from 0"
        table[int(last)] = value
    else:
        table[last] = value
    return None


def study_folder(config: StudyConfig, study_file: Path) -> Path:
    """Where the study keeps its runs."""
    if config.output:
        return resolve_path(config.output, study_file)
    return study_file.parent / "runs" / config.name


def resolve_path(text: str, study_file: Path) -> Path:
    """A path of the study file: relative to the file, `~` and environment variables expanded."""
    path = Path(os.path.expandvars(text)).expanduser()
    return path if path.is_absolute() else study_file.parent / path
