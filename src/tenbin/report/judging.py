"""The part on judges: how far people agree with them, what they could not read, and pairs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenbin.grading.items import collect_items, finished_runs
from tenbin.judge.calibration import MIN_HUMAN, MIN_KAPPA, Calibration, calibrate, judges_of
from tenbin.judge.pairs import PairResult, pair_from_json
from tenbin.report.advice import level_text
from tenbin.report.evidence import Evidence
from tenbin.report.graded import all_grades
from tenbin.report.part import Part
from tenbin.report.table import Cell, Table
from tenbin.report.text import MISSING, p_text, share_text
from tenbin.report.words import Words
from tenbin.runs import StudyFolder, read_record

SETTINGS = "judge.json"


def pairs_file(study: StudyFolder) -> Path:
    """Where pairs are kept."""
    return study.path / "pairs.json"


def read_pairs(study: StudyFolder) -> tuple[PairResult, ...]:
    """Pairs judged in a study; () where there are none.

    Raises:
        DataError: where the file is not whole.
    """
    path = pairs_file(study)
    if not path.exists():
        return ()
    return read_record(path, lambda raw: tuple(pair_from_json(item) for item in raw))


def calibrations(study: StudyFolder, level: float) -> tuple[Calibration, ...]:
    """Every judge whose grades are in the store, against people.

    Raises:
        DataError: where the store or a run is not whole.
    """
    grades = all_grades(study)
    judges = judges_of(grades)
    if not judges:
        return ()
    items = collect_items(finished_runs(study))
    settings: Mapping[str, Any] = study.read(SETTINGS) or {}
    return tuple(
        calibrate(
            judge,
            items,
            grades,
            min_human=settings.get(judge, {}).get("min_human", MIN_HUMAN),
            min_kappa=settings.get(judge, {}).get("min_kappa", MIN_KAPPA),
            level=level,
        )
        for judge in judges
    )


def judge_cautions(study: StudyFolder, evidence: Evidence, say: Words) -> tuple[str, ...]:
    """One sentence for every judge that counts in the points and is not calibrated, and one for grades that
    were not to be read; these stand beside the recommendation."""
    counted = {
        name
        for system in evidence.systems
        for part in system.result.points
        for who in part.by
        if who.startswith("judge ")
        for name in who.removeprefix("judge ").split(", ")
    }
    found = []
    for calibration in calibrations(study, evidence.level) if counted else ():
        if calibration.grader not in counted:
            continue
        if calibration.state != "calibrated":
            found.append(say("judge.caution", judge=calibration.grader, reason=_state_text(calibration, say)))
        lost = calibration.num_unparsed + calibration.num_failed
        if lost:
            found.append(say("judge.lost", judge=calibration.grader, n=lost, total=calibration.num_judged))
    return tuple(found)


def judge_part(study: StudyFolder, evidence: Evidence, say: Words) -> Part | None:
    """Calibration, confusion and pairs; None where no judge gave a grade."""
    found = calibrations(study, evidence.level)
    pairs = read_pairs(study)
    if not found and not pairs:
        return None
    tables = [_calibration_table(found, evidence, say)] if found else []
    tables += [_confusion_table(c, number, say) for number, c in enumerate(found) if c.num_items]
    tables += [_pair_table(pairs, evidence, say)] if pairs else []
    return Part(
        id="judges",
        title=say("judge.title"),
        notes=(say("judge.intro"), *judge_cautions(study, evidence, say)),
        tables=tuple(tables),
    )


def _state_text(calibration: Calibration, say: Words) -> str:
    interval = calibration.interval
    return {
        "calibrated": say("judge.calibrated"),
        "too few": say("judge.too_few", n=calibration.num_items),
        "too low": say(
            "judge.too_low",
            kappa=f"{calibration.kappa or 0:.2f}",
            low=f"{interval.low:.2f}" if interval else MISSING,
        ),
        "undefined": say("judge.undefined", n=calibration.num_items),
    }[calibration.state]


def _calibration_table(found: Sequence[Calibration], evidence: Evidence, say: Words) -> Table:
    level = level_text(evidence.level)
    rows = []
    for c in found:
        agreed, interval = c.agreement, c.interval
        rows.append(
            (
                Cell(c.grader),
                Cell(_state_text(c, say)),
                Cell(str(c.num_items), float(c.num_items)),
                Cell(
                    f"{share_text(agreed.value)} ({share_text(agreed.low)} – {share_text(agreed.high)})"
                    if agreed
                    else MISSING
                ),
                Cell(f"{c.kappa:.2f}" if c.kappa is not None else MISSING, c.kappa),
                Cell(f"{interval.low:.2f} – {interval.high:.2f}" if interval else MISSING),
                Cell(f"{c.bias:+.2f}" if c.bias is not None else MISSING, c.bias),
                Cell(f"{c.num_steady} / {c.num_repeated}" if c.num_repeated else MISSING),
                Cell(str(c.num_judged), float(c.num_judged)),
                Cell(str(c.num_unparsed), float(c.num_unparsed)),
                Cell(str(c.num_failed), float(c.num_failed)),
            )
        )
    return Table(
        id="judge-calibration",
        title=say("judge.calibration_table"),
        columns=(
            say("judge.judge"),
            say("judge.state"),
            say("judge.both"),
            say("judge.agreement", level=level),
            say("judge.kappa"),
            say("table.interval", level=level),
            say("judge.bias"),
            say("judge.steady"),
            say("judge.judgements"),
            say("table.unparsed"),
            say("table.errors"),
        ),
        rows=tuple(rows),
        notes=(say("judge.calibration_note"),),
        text_columns=frozenset({0, 1}),
    )


def _confusion_table(calibration: Calibration, number: int, say: Words) -> Table:
    scale = calibration.scale
    return Table(
        id=f"judge-confusion-{number}",
        title=say("judge.confusion_table", judge=calibration.grader),
        columns=(say("judge.people_judge"), *(f"{share:g}" for share in scale)),
        rows=tuple(
            (
                Cell(f"{people:g}"),
                *(
                    Cell(str(n), float(n), best=people == judge and n > 0)
                    for judge in scale
                    for n in (calibration.confusion.get((people, judge), 0),)
                ),
            )
            for people in scale
        ),
        notes=(say("judge.confusion_note"),),
    )


def _pair_table(pairs: Sequence[PairResult], evidence: Evidence, say: Words) -> Table:
    names = {system.key: system.name for system in evidence.systems}
    rows = []
    for pair in pairs:
        share = pair.share(evidence.level)
        rows.append(
            (
                Cell(names.get(pair.first, pair.first)),
                Cell(names.get(pair.second, pair.second)),
                Cell(pair.judge),
                Cell(f"{pair.count('first')} : {pair.count('second')}"),
                Cell(str(pair.count("same") + pair.num_equal)),
                Cell(str(pair.count("position"))),
                Cell(str(pair.count("unparsed"))),
                Cell(str(pair.count("error"))),
                Cell(
                    f"{share_text(share.value)} ({share_text(share.low)} – {share_text(share.high)})"
                    if share
                    else MISSING
                ),
                Cell(p_text(pair.p_value()).removeprefix("= ")),
            )
        )
    return Table(
        id="judge-pairs",
        title=say("judge.pair_table"),
        columns=(
            say("table.first"),
            say("table.second"),
            say("judge.judge"),
            say("judge.wins"),
            say("judge.same"),
            say("judge.position"),
            say("table.unparsed"),
            say("table.errors"),
            say("judge.share", level=level_text(evidence.level)),
            say("table.p"),
        ),
        rows=tuple(rows),
        notes=(say("judge.pair_note"),),
        text_columns=frozenset({0, 1, 2}),
    )
