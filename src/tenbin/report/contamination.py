"""The part on contamination: whether base models know the questions' choices in their printed order."""

from collections.abc import Mapping
from typing import Any

from tenbin.contamination import OrderHint, hint_from_json
from tenbin.report.advice import level_text
from tenbin.report.evidence import Evidence
from tenbin.report.part import Part
from tenbin.report.table import Cell, Table
from tenbin.report.text import MISSING, p_text, share_text
from tenbin.report.words import Words
from tenbin.runs import StudyFolder, read_record

FILE = "contamination.json"


def read_hints(study: StudyFolder) -> tuple[Mapping[str, Any], dict[str, OrderHint]]:
    """Settings of the hints in a study's folder, and run id -> hint; both empty where there are none.

    Raises:
        DataError: where the file is not what the study wrote.
    """
    path = study.path / FILE
    if not path.exists():
        return {}, {}
    return read_record(
        path,
        lambda raw: (raw["settings"], {key: hint_from_json(item) for key, item in raw["hints"].items()}),
    )


def contamination_part(study: StudyFolder, evidence: Evidence, say: Words) -> Part | None:
    """A table of the hints; None where nothing was looked at."""
    _, hints = read_hints(study)
    if not hints:
        return None
    names = {system.key: system.name for system in evidence.systems}
    level = level_text(evidence.level)
    table = Table(
        id="contamination-order",
        title=say("contamination.table"),
        columns=(
            say("table.system"),
            say("contamination.first"),
            say("table.interval", level=level),
            say("contamination.expected"),
            say("table.p"),
            say("contamination.gap"),
            say("contamination.questions"),
            say("contamination.skipped"),
            say("table.errors"),
            say("table.reading"),
        ),
        rows=tuple(_row(names.get(key, hint.system), hint, say) for key, hint in hints.items()),
        text_columns=frozenset({0, 9}),
    )
    notes = (say("contamination.intro", n=next(iter(hints.values())).num_orders), say("contamination.limits"))
    return Part(id="contamination", title=say("contamination.title"), notes=notes, tables=(table,))


def _row(name: str, hint: OrderHint, say: Words) -> tuple[Cell, ...]:
    share, gap = hint.share, hint.gap
    return (
        Cell(name),
        Cell(share_text(share.value) if share else hint.reason or MISSING),
        Cell(f"{share_text(share.low)} – {share_text(share.high)}" if share else MISSING),
        Cell(share_text(hint.expected)),
        Cell(p_text(hint.p_value).removeprefix("= ") if hint.p_value is not None else MISSING),
        Cell(f"{gap.value:+.2f} ({gap.low:+.2f} – {gap.high:+.2f})" if gap else MISSING),
        Cell(str(len(hint.rows)), float(len(hint.rows))),
        Cell(str(hint.num_skipped), float(hint.num_skipped)),
        Cell(str(hint.num_errors), float(hint.num_errors)),
        Cell(_reading(hint, say)),
    )


def _reading(hint: OrderHint, say: Words) -> str:
    if hint.share is None or hint.p_value is None:
        return MISSING
    shown = hint.p_value <= 1 - hint.share.level
    return say("contamination.more_often" if shown else "contamination.not_more")
