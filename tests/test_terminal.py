"""The terminal: one line a bar at any width, and lines now and then where there is no terminal."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from tenbin.terminal import TerminalScreen


def shown(label, width, *, total=1234, done=17, unit="step", note="loss 12.345", terminal=True, every=0.0):
    """What stands on the screen, line by line, without colours."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal)
    screen = TerminalScreen(console, line_every_s=every)
    with screen.bar(label, total, unit) as bar:
        for step in range(1, done + 1):
            bar.update(step, note)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize(
    "label",
    [
        "gemma-3-270m lr=0.0005: training",
        "gemma-3-270m lr=0.0005 seed=12: validation 10",
        "llm-jp-3.1-13b-instruct4-of-our-own lr=2e-05 seed=1: training",
        "社内で作った大規模言語モデルの十三億版 lr=2e-05: training",
    ],
)
def test_a_bar_is_one_line_with_everything_on_it(label, width):
    lines = shown(label, width)
    assert all("/1234 left" in line and cell_len(line) <= width for line in lines), lines
    for part in ("17/1234", "left", "loss 12.345", label[-8:]):
        assert part in lines[-1]
    if width == 160:
        assert label in lines[-1]


def test_the_usual_bar_fits_80_columns():
    line = shown("gemma-3-270m lr=0.0005: training", 80, total=500)[-1]
    assert re.search("gemma-3-270m lr=0.0005: training [━╸╺]{6}", line)
    line = shown("gemma-3-270m lr=0.0005: validation 1", 80, total=120, note="")[-1]
    assert re.search("gemma-3-270m lr=0.0005: validation 1 [━╸╺]{6}", line)


def test_a_log_gets_lines_with_the_time_left():
    lines = shown("m lr=0.001: training", 80, total=20, done=20, terminal=False)
    assert len(lines) == 20
    assert lines[0].startswith("  m lr=0.001: training: 1/20 steps")
    assert re.fullmatch(r"  m lr=0.001: training: 9/20 steps, 0:00:0\d left, loss 12.345", lines[8])
    assert re.fullmatch(r"  m lr=0.001: training: 20/20 steps, 0:00:0\d spent, loss 12.345", lines[-1])


def test_a_log_is_not_flooded():
    lines = shown("m lr=0.001: test", 80, total=2000, done=2000, unit="answer", terminal=False, every=15.0)
    assert len(lines) == 1
    assert "2,000/2,000 answers" in lines[0]


def test_a_path_is_not_broken_into_lines():
    file = io.StringIO()
    TerminalScreen(Console(file=file, width=40)).say("x" * 100)
    assert file.getvalue() == "  " + "x" * 100 + "\n"
