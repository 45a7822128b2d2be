"""DataPart: what a report says of the data: sets, lengths, balance of the categories, warnings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenbin.data.inspection import Inspection
from tenbin.report.charts import Chart, balance_chart, histogram_chart
from tenbin.report.evidence import Evidence
from tenbin.report.table import Cell, Table, words
from tenbin.report.text import MISSING, share_text
from tenbin.report.words import Words

CHARACTERS = "characters"
WHOLE = "whole example"
NAMED_FIELDS = {"reference": "data.reference", WHOLE: "data.whole"}
"""Fields of an inspection that are not columns of the user's file."""

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class DataPart:
    """Tables, charts and notes of the data section."""

    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    notes: tuple[str, ...]


def data_part(evidence: Evidence, say: Words) -> DataPart:
    """Of a study, from data.json and inspection.json, as far as they are there."""
    inspection: Mapping[str, Any] = evidence.inspection or {}
    categories = inspection.get("categories") or _seen_categories(evidence)
    return _part(evidence.data, {**inspection, "categories": categories}, evidence.split, say)


def inspection_part(inspection: Inspection, say: Words) -> DataPart:
    """Of an inspection alone."""
    sets = {
        split: {"num_examples": number, "fingerprint": inspection.fingerprints[split]}
        for split, number in inspection.num_examples.items()
    }
    return _part({"splits": sets}, inspection.to_json(), list(sets)[-1], say)


def _part(data: Mapping[str, Any], inspection: Mapping[str, Any], reported: str, say: Words) -> DataPart:
    lengths: Records = inspection.get("lengths") or []
    cuts: Records = inspection.get("cuts") or []
    tables = (
        _sets(data, say),
        _warnings(inspection, say),
        _lengths(lengths, say),
        _tokens(lengths, inspection, say),
        _too_long(cuts, say),
    )
    charts = [balance_chart(_shares(inspection), say)]
    for split in dict.fromkeys(("train", reported)):
        charts.append(_histograms(lengths, split, say))
    notes = [*(data.get("notes") or []), *(inspection.get("notes") or []), *_nothing_cut(cuts, say)]
    return DataPart(
        tables=tuple(table for table in tables if table is not None),
        charts=tuple(chart for chart in charts if chart is not None),
        notes=tuple(dict.fromkeys(str(note) for note in notes)),
    )


def _sets(data: Mapping[str, Any], say: Words) -> Table | None:
    splits: Mapping[str, Mapping[str, Any]] = data.get("splits") or {}
    if not splits:
        return None
    files = {name: str(split.get("name") or split.get("file") or "") for name, split in splits.items()}
    with_files = any(files.values())
    columns = ["set", "num_examples", *(["file"] if with_files else []), "fingerprint"]
    rows = [
        (
            Cell(say.split(name)),
            _number(split.get("num_examples")),
            *([Cell(files[name] or MISSING)] if with_files else []),
            Cell(str(split.get("fingerprint") or MISSING)),
        )
        for name, split in splits.items()
    ]
    return Table(
        id="sets",
        title=say("table.files"),
        columns=tuple(say(f"table.{column}") for column in columns),
        rows=tuple(rows),
        text_columns=frozenset({0, *range(2, len(columns))}),
    )


def _warnings(inspection: Mapping[str, Any], say: Words) -> Table | None:
    """Leaks between sets and findings, with the first places."""
    rows = []
    for leak in inspection.get("leaks") or []:
        sets = [str(leak[key]) for key in ("first", "second") if leak.get(key)]
        places = " / ".join(" = ".join(map(str, pair)) for pair in leak.get("places") or [])
        what = say("data.leak", kind=leak.get("kind", ""))
        rows.append(words(" → ".join(map(say.split, sets)), f"{leak.get('num_examples', 0):,}", what, places))
    for finding in inspection.get("findings") or []:
        split = say.split(str(finding["split"])) if finding.get("split") else say("data.several")
        places = " / ".join(str(place) for place in finding.get("places") or [])
        rows.append(words(split, f"{finding.get('num', 0):,}", str(finding.get("text", "")), places))
    if not rows:
        return None
    return Table(
        id="warnings",
        title=say("data.warnings"),
        columns=(say("table.set"), say("data.number"), say("data.what"), say("data.places")),
        rows=tuple(rows),
        text_columns=frozenset({0, 2, 3}),
    )


def _lengths(lengths: Records, say: Words) -> Table | None:
    """The shape of the paper's Table 4: four lines a set, one column a field, in characters."""
    mine = [record for record in lengths if record.get("unit") == CHARACTERS]
    if not mine:
        return None
    fields = list(dict.fromkeys(str(record["field"]) for record in mine))
    by_place = {(record["split"], record["field"]): record for record in mine}
    rows = []
    for split in dict.fromkeys(str(record["split"]) for record in mine):
        for key, name in (("num", "samples"), ("max", "maximum"), ("mean", "average"), ("median", "median")):
            cells = [
                _number(by_place.get((split, field), {}).get(key), exact=key in {"num", "max"})
                for field in fields
            ]
            rows.append((Cell(say.split(split)), Cell(say(f"data.{name}")), *cells))
    return Table(
        id="lengths",
        title=say("data.lengths"),
        columns=(say("table.set"), "", *(field_name(field, say) for field in fields)),
        rows=tuple(rows),
        text_columns=frozenset({0, 1}),
    )


def _tokens(lengths: Records, inspection: Mapping[str, Any], say: Words) -> Table | None:
    """Whole examples in each model's tokens."""
    rates: Mapping[str, float] = inspection.get("tokens_per_character") or {}
    mine = [record for record in lengths if record.get("unit") != CHARACTERS and record.get("field") == WHOLE]
    if not mine:
        return None
    rows = []
    for record in mine:
        rate = rates.get(str(record["unit"]))
        rows.append(
            (
                Cell(str(record["unit"])),
                Cell(say.split(str(record["split"]))),
                *(_number(record.get(key), exact=key == "max") for key in ("max", "mean", "median")),
                Cell(f"{rate:.2f}" if rate is not None else MISSING, rate),
            )
        )
    return Table(
        id="tokens",
        title=say("data.tokens"),
        columns=(
            say("table.model"),
            say("table.set"),
            *(say(f"data.{name}") for name in ("maximum", "average", "median", "rate")),
        ),
        rows=tuple(rows),
        text_columns=frozenset({0, 1}),
    )


def _too_long(cuts: Records, say: Words) -> Table | None:
    """Share of the training examples above some lengths, in each model's tokens; lengths that cut some."""
    mine = [cut for cut in cuts if cut.get("split") == "train"]
    limits = sorted({int(cut["max_length"]) for cut in mine if cut["rows"]})
    if not limits:
        return None
    by_place = {(str(cut["model"]), int(cut["max_length"])): cut for cut in mine}
    kinds = {"rows": "cut_rows"}
    if any(cut.get("answers") for cut in mine):
        kinds["answers"] = "cut_answers"
    return Table(
        id="too-long",
        title=say("data.too_long"),
        columns=(say("table.model"), "", *(f"> {limit:,}" for limit in limits)),
        rows=tuple(
            (
                Cell(model),
                Cell(say(f"data.{text}")),
                *(_share(by_place.get((model, limit), {}).get(key)) for limit in limits),
            )
            for model in dict.fromkeys(model for model, _ in by_place)
            for key, text in kinds.items()
        ),
        text_columns=frozenset({0, 1}),
    )


def _nothing_cut(cuts: Records, say: Words) -> list[str]:
    """A sentence a model whose training examples are shorter than every length looked at."""
    lines = []
    for model in dict.fromkeys(str(cut["model"]) for cut in cuts):
        mine = [cut for cut in cuts if cut["model"] == model and cut.get("split") == "train"]
        if mine and not any(cut["rows"] for cut in mine):
            limit = min(int(cut["max_length"]) for cut in mine)
            lines.append(say("data.none_longer", model=model, set=say.split("train"), limit=f"{limit:,}"))
    return lines


def _histograms(lengths: Records, split: str, say: Words) -> Chart | None:
    """The shape of the paper's Figures 2 to 4, in characters."""
    mine = [r for r in lengths if r.get("unit") == CHARACTERS and r.get("split") == split and r.get("num")]
    bars = {
        field_name(str(record["field"]), say): bars_of(record["edges"], record["counts"]) for record in mine
    }
    title = say("chart.lengths", split=say.split(split))
    return histogram_chart(f"lengths-{split}", title, bars, say)


def bars_of(edges: Sequence[float], counts: Sequence[int]) -> list[tuple[float, float, int]]:
    """(from, to, number) of every bar; the last one, which may reach far, is drawn as wide as the others."""
    bars = [(low, high, number) for low, high, number in zip(edges, edges[1:], counts, strict=False)]
    if len(bars) > 1:
        width = bars[0][1] - bars[0][0]
        low, high, number = bars[-1]
        bars[-1] = (low, min(high, low + width), number)
    return bars


def _seen_categories(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Without an inspection: the references of the reporting set."""
    if evidence.task != "classification":
        return {}
    rows = next((system.rows for system in evidence.systems if system.rows), ())
    return {evidence.split: dict(Counter(reference for row in rows for reference in row.references[:1]))}


def _shares(inspection: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Set -> category -> share."""
    counts: dict[str, dict[str, int]] = {
        split: dict(numbers) for split, numbers in (inspection.get("categories") or {}).items()
    }
    order = list(dict.fromkeys(c for numbers in counts.values() for c in numbers))
    return {
        split: {c: numbers.get(c, 0) / sum(numbers.values()) for c in order}
        for split, numbers in counts.items()
        if sum(numbers.values())
    }


def field_name(field: str, say: Words) -> str:
    """A field as in tables: the user's own name, or ours in the report's language."""
    return say(NAMED_FIELDS[field]) if field in NAMED_FIELDS else field


def _number(value: object, exact: bool = True) -> Cell:
    if not isinstance(value, int | float):
        return Cell(MISSING)
    return Cell(f"{value:,.0f}" if exact else f"{value:,.1f}", value)


def _share(value: float | None) -> Cell:
    return Cell(share_text(value) if value is not None else MISSING, value)
