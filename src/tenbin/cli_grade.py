"""`tenbin grade`: blind grading of question banks by people."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

grade_app = typer.Typer(
    help="Let people grade the answers to a question bank, blind, in Excel.", no_args_is_help=True
)


@grade_app.command("export")
def export(
    runs: Annotated[
        list[Path], typer.Argument(help="A study folder, or some of its run folders.", metavar="RUNS...")
    ],
    raters: Annotated[list[str], typer.Option("--rater", help="Who grades: a sheet each (repeatable).")],
    questions: Annotated[
        Literal["people", "judge", "all"],
        typer.Option(help="Questions with grade = people, = judge (to check the judge), or all."),
    ] = "people",
    disputed: Annotated[
        bool, typer.Option("--disputed", help="Only answers on which other raters differ.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also answers that the rater has graded already.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the order of the answers.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Folder; FOLDER/grading without it.")] = None,
    language: Annotated[Literal["ja", "en"], typer.Option(help="Of the headings.")] = "ja",
) -> None:
    """Write a blind sheet a rater: answers shuffled, models hidden, a drop-down of the grades."""
    from tenbin.commands_grade import export_sheets

    export_sheets(
        runs,
        raters,
        wanted=questions,
        disputed=disputed,
        again=again,
        seed=seed,
        output=output,
        language=language,
        console=Console(),
    )


@grade_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="The study folder.")],
    sheets: Annotated[
        list[Path] | None, typer.Argument(help="Graded sheets; those in FOLDER/grading without any.")
    ] = None,
    rater: Annotated[str | None, typer.Option(help="Who graded, instead of the name on the sheet.")] = None,
    disagreement: Annotated[
        Literal["mean", "adjudicator"] | None,
        typer.Option(help="How different grades count; kept for this study."),
    ] = None,
    adjudicator: Annotated[
        str | None, typer.Option(help="Rater whose grade counts where others differ; kept for this study.")
    ] = None,
) -> None:
    """Read graded sheets back, say how far the raters agree, and work the points out."""
    from tenbin.commands_grade import import_sheets

    import_sheets(
        folder,
        sheets or [],
        rater=rater,
        disagreement=disagreement,
        adjudicator=adjudicator,
        console=Console(),
    )


@grade_app.command("show")
def show(folder: Annotated[Path, typer.Argument(help="The study folder.")]) -> None:
    """Who graded how many answers, how far raters agree, and what is not graded yet."""
    from tenbin.commands_grade import show_grades

    show_grades(folder, console=Console())
