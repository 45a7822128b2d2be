"""`tenbin judge` as a function: judge, then say how far the judge is to be leant on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tenbin.terminal import TerminalScreen


def judge_answers(
    path: Path,
    judge: Mapping[str, Any] | None,
    overrides: Mapping[str, Any],
    *,
    max_cost: str | None,
    offline: bool,
    console: Console,
) -> None:
    """`tenbin judge`."""
    from tenbin.study.judging import judge_any

    done = judge_any(
        path,
        judge,
        overrides=overrides,
        max_cost=max_cost,
        offline=offline,
        screen=TerminalScreen(console),
    )

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for judged in done:
        c = judged.calibration
        say(
            f"{c.grader}: {c.num_judged:,} judgements, {c.num_unparsed:,} unparsed, {c.num_failed:,} failed"
            " (those count in no score)"
        )
        if c.num_repeated:
            say(f"  the same grade when repeated: {c.num_steady:,} of {c.num_repeated:,} answers")
        state = "calibrated against people" if c.state == "calibrated" else "NOT calibrated against people"
        say(f"  {state}: {c.reason}")
        for pair in judged.pairs:
            wins = f"{pair.count('first')} : {pair.count('second')}"
            ties = pair.count("same") + pair.num_equal
            lost = pair.count("unparsed") + pair.count("error")
            say(
                f"  {pair.first} and {pair.second}: better {wins}, as good {ties}, changed with the position"
                f" {pair.count('position')}, without a verdict {lost}"
            )
    say("the points are counted anew, and the report is written again")
