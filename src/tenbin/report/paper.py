"""The paper's tables: models by learning rates, in the shapes of its Tables 3, 5 and 6."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tenbin.report.evidence import Evidence, System, read_evidence
from tenbin.report.table import Cell, Table, mark_best
from tenbin.report.text import MISSING, Scale, rate_text, scale_of
from tenbin.report.words import Language, Words
from tenbin.runs import StudyFolder

FIRST_COLUMNS_OF_TABLE_6 = ("train_max_len", "infer_input_max_len")


def paper_tables(study: StudyFolder, *, language: Language = "en") -> list[Table]:
    """The paper's table of this study's task, from any set of finished runs.

    classification: Table 3 (accuracy in percent); reading: Table 5 (EM/F1 in percent); summarization:
    Table 6 (ROUGE-1 with the two lengths). Other tasks get the shape of Table 3. Beside the paper's
    columns stand the base model and, below, the baselines. A cell without a finished run says so.
    """
    words = Words(language)
    return tables_of(read_evidence(study, words), words)


def tables_of(evidence: Evidence, words: Words) -> list[Table]:
    """The same from evidence that is already read; no table where no run is finished."""
    if not evidence.of_kind("tuned", "base", "hosted"):
        return []
    grid = _Grid(evidence, words, _metrics(evidence))
    notes = [_best_note(evidence, words)]
    seeds = {s.run.spec.seed for s in evidence.of_kind("tuned") if s.run}
    if len(seeds) > 1:
        notes.append(words("table.seeds_note", n=len(seeds)))
    if grid.with_lengths:
        notes.append(words("table.lengths_note"))
    return [
        Table(
            id=f"paper-{evidence.task}",
            title=_title(evidence, words),
            columns=grid.columns(),
            rows=tuple(grid.rows()),
            notes=tuple(notes),
        )
    ]


def _title(evidence: Evidence, words: Words) -> str:
    shape = evidence.task if evidence.task in {"reading", "summarization"} else "classification"
    if shape == "reading" and len(_metrics(evidence)) < 2:
        shape = "classification"
    return words(f"table.paper_{shape}", metric=evidence.headline_name)


def _metrics(evidence: Evidence) -> list[str]:
    """Ids of the metrics of one cell: EM and F1 for reading, else the headline."""
    if evidence.task == "reading":
        ids = {m.name.upper(): m.metric for s in evidence.systems for m in s.result.metrics}
        if {"EM", "F1"} <= set(ids):
            return [ids["EM"], ids["F1"]]
    return [evidence.headline]


def _best_note(evidence: Evidence, words: Words) -> str:
    sizes = sorted({s.result.num_examples for s in evidence.systems})
    chosen = sorted({s.run.selected_on for s in evidence.systems if s.run and s.run.selected_on})
    return words(
        "table.best_note",
        split=words.split(evidence.split),
        n=", ".join(str(size) for size in sizes),
        chosen=chosen_text(", ".join(chosen), words),
    )


def chosen_text(selected_on: str, words: Words) -> str:
    """`validation jsquad_f1` with the set's name in the report's language."""
    split, _, metric = selected_on.partition(" ")
    return f"{words.split(split)} {metric}".strip() if selected_on else MISSING


@dataclass(frozen=True, slots=True)
class _Grid:
    evidence: Evidence
    words: Words
    metrics: list[str]

    @property
    def with_lengths(self) -> bool:
        return self.evidence.task == "summarization"

    @property
    def scale(self) -> Scale:
        return scale_of(self.metrics[-1])

    def rates(self) -> list[float]:
        """Learning rates from high to low, of finished runs and of those without a result."""
        found = [s.rate for s in self.evidence.of_kind("tuned")] + [r.rate for r in self.evidence.incomplete]
        return sorted({rate for rate in found if rate is not None}, reverse=True)

    def columns(self) -> tuple[str, ...]:
        rates = [f"lr={rate_text(rate)}" for rate in self.rates()]
        lengths = FIRST_COLUMNS_OF_TABLE_6 if self.with_lengths else ()
        return (self.words("table.model"), *lengths, self.words("table.base_column"), *rates)

    def rows(self) -> list[tuple[Cell, ...]]:
        leads: list[tuple[Cell, ...]] = []
        bodies: list[list[Cell]] = []
        ranks: list[list[float | None]] = []
        for model, variant in self._models():
            leads.append(self._lead(model, variant))
            groups = [self._group(model, variant, rate) for rate in (None, *self.rates())]
            cells = [self._cell(group) for group in groups]
            for position, rate in enumerate((None, *self.rates())):
                if not groups[position]:
                    cells[position] = Cell(self._missing(model, rate))
            bodies.append(cells)
            ranks.append([self._rank(group) for group in groups])
        for baseline in self.evidence.of_kind("baseline"):
            width = len(self.columns()) - 2 - len(FIRST_COLUMNS_OF_TABLE_6 if self.with_lengths else ())
            blank = tuple(Cell("") for _ in range(2 if self.with_lengths else 0))
            leads.append((Cell(baseline.name), *blank))
            bodies.append([self._cell([baseline]), *(Cell("") for _ in range(width))])
            ranks.append([self._rank([baseline]), *(None for _ in range(width))])
        return [(*lead, *row) for lead, row in zip(leads, mark_best(bodies, ranks), strict=True)]

    def _models(self) -> list[tuple[str, str]]:
        """(model, variant) of each row: tuned ones, base models without runs, models without any result."""
        found = dict.fromkeys((s.model or "", s.variant) for s in self.evidence.of_kind("tuned"))
        names = {name for name, _ in found}
        for system in self.evidence.of_kind("base", "hosted"):
            if system.model and system.model not in names:
                found[(system.model, "")] = None
        names = {name for name, _ in found}
        for run in self.evidence.incomplete:
            if run.model not in names:
                found[(run.model, "")] = None
        return list(found)

    def _group(self, model: str, variant: str, rate: float | None) -> list[System]:
        """The systems of one cell: one a seed."""
        if rate is None:
            return [s for s in self.evidence.of_kind("base", "hosted") if s.model == model][:1]
        return [
            s
            for s in self.evidence.of_kind("tuned")
            if s.model == model and s.variant == variant and s.rate == rate
        ]

    def _cell(self, group: Sequence[System]) -> Cell:
        means = [_mean(group, metric) for metric in self.metrics]
        last = means[-1]
        number = self.scale.number(last) if last is not None and len(means) == 1 else None
        return Cell("/".join(self.scale.text(mean) for mean in means) if group else "", number)

    def _rank(self, group: Sequence[System]) -> float | None:
        metric = self.evidence.headline if self.evidence.headline in self.metrics else self.metrics[-1]
        return _mean(group, metric)

    def _missing(self, model: str, rate: float | None) -> str:
        for run in self.evidence.incomplete:
            if run.model == model and run.rate == rate:
                return self.words("table." + run.state.replace(" ", "_"))
        return MISSING

    def _lead(self, model: str, variant: str) -> tuple[Cell, ...]:
        name = Cell(f"{model} [{variant}]" if variant else model)
        if not self.with_lengths:
            return (name,)
        train = train_max_length(self.evidence, model, variant)
        return (name, _count(train), _count(input_max_length(self.evidence, model, variant)))


def train_max_length(evidence: Evidence, model: str, variant: str = "") -> int | None:
    """Longest training example allowed, in tokens: of the runs' settings, else of the plan."""
    for system in evidence.of_kind("tuned"):
        training = system.run.spec.settings.get("training") if system.run else None
        if (system.model, system.variant) == (model, variant) and isinstance(training, Mapping):
            value = training.get("max_length")
            if isinstance(value, int):
                return value
    value = evidence.plan.get(model, {}).get("max_length")
    return value if isinstance(value, int) else None


def input_max_length(evidence: Evidence, model: str, variant: str = "") -> int | None:
    """Longest prompt allowed in evaluation, in tokens: of the runs' settings, else of the plan, else the
    longest one that was evaluated."""
    mine = [s for s in evidence.of_kind("tuned", "base") if s.model == model and s.variant in {variant, ""}]
    settings = [system.run.spec.settings for system in mine if system.run]
    for place in (*settings, evidence.plan.get(model, {})):
        value = place.get("max_input_tokens")
        if isinstance(value, int):
            return value
    return max((row.input_tokens for system in mine for row in system.rows), default=None)


def _mean(group: Sequence[System], metric: str) -> float | None:
    """Mean over the seeds; None as soon as one of them is undefined."""
    values = [system.value(metric) for system in group]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _count(value: int | None) -> Cell:
    return Cell(f"{value:,}" if value is not None else MISSING, value)
