"""Compared: the runs of one or more study folders, weighed against each other pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenbin.errors import DataError, Problem
from tenbin.report.comparisons import Comparison
from tenbin.report.evidence import LeftOut, System, read_evidence
from tenbin.report.recommendation import Recommendation, recommend
from tenbin.report.words import Language, Words
from tenbin.runs import StudyFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Every system, every pair, and what the figures say."""

    headline: str
    """Metric id that was compared."""
    systems: tuple[System, ...]
    comparisons: tuple[Comparison, ...]
    """Of the weighed ones; p values corrected by Holm over all of them."""
    left_out: tuple[LeftOut, ...]
    """What may not be compared, and why."""
    recommendation: Recommendation

    def to_rows(self) -> list[dict[str, object]]:
        """A row a pair, for a data frame."""
        return [
            {
                "first": c.a.name,
                "second": c.b.name,
                "metric": self.headline,
                "difference": c.difference.value if c.difference else None,
                "low": c.difference.low if c.difference else None,
                "high": c.difference.high if c.difference else None,
                "n": c.n,
                "p": c.p_value,
                "p_holm": c.p_adjusted,
                "method": c.method,
                "reason": c.reason,
            }
            for c in self.comparisons
        ]


def compare_folders(folders: Sequence[Path], *, language: Language = "en") -> Compared:
    """Weigh the runs of study folders against each other.

    Args:
        folders: the first one says what data and template the others must share.
        language: of the names of baselines.

    Raises:
        DataError: a folder is no study's, all of them.
    """
    evidence = read_evidence(open_folders(folders), Words(language))
    found = recommend(evidence)
    return Compared(
        headline=evidence.headline,
        systems=evidence.systems,
        comparisons=found.comparisons,
        left_out=evidence.left_out,
        recommendation=found,
    )


def open_folders(folders: Sequence[Path]) -> StudyFolder:
    """One study folder with the runs of all.

    Raises:
        DataError: a folder is no study's, all of them.
    """
    remedy = "name the folder that `tenbin run` or `tenbin eval` wrote (it holds data.json and runs)"
    problems = [
        Problem(
            where=str(folder),
            found="this is not a study folder" if folder.is_dir() else "there is no such folder",
            remedy=remedy,
        )
        for folder in folders
        if not (folder / "data.json").exists() and not StudyFolder(folder).runs()
    ]
    if not folders:
        problems = [Problem(where="compare", found="no folder is named", remedy=remedy)]
    if problems:
        raise DataError(problems)
    return StudyFolder(folders[0], folders[1:])
