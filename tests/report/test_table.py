from tests.report.studies import HOSTILE

from tenbin.report.table import Cell, Table, mark_best

TABLE = Table(
    id="t",
    title="A | B",
    columns=("Model", "lr=2e-4"),
    rows=((Cell("<b>x</b> | *y*\n[l](u)"), Cell("96.84", 96.84, best=True)), (Cell("z"), Cell(""))),
    notes=("n = 3",),
)


def test_markdown():
    assert TABLE.to_markdown() == (
        "### A \\| B\n\n"
        "| Model | lr=2e-4 |\n"
        "| --- | ---: |\n"
        "| \\<b\\>x\\</b\\> \\| \\*y\\* \\[l\\](u) | **96.84** |\n"
        "| z |  |\n\n"
        "n = 3\n"
    )


def test_tsv():
    assert TABLE.to_tsv() == "Model\tlr=2e-4\n<b>x</b> | *y* [l](u)\t96.84\nz\t\n"


def test_html_escapes():
    text = TABLE.to_html()
    assert "<td>&lt;b&gt;x&lt;/b&gt; | *y*\n[l](u)</td>" in text
    assert '<td class="n"><strong>96.84</strong></td>' in text


def test_hostile_cells_stay_in_their_cell():
    table = Table(id="h", title="h", columns=("a",), rows=tuple((Cell(text),) for text in HOSTILE))
    lines = table.to_markdown().splitlines()
    assert len(lines) == 4 + len(HOSTILE)
    assert "<script>" not in table.to_html()
    assert len(table.to_tsv().split("\n")) == 2 + len(HOSTILE)


def test_all_that_tie_are_best():
    rows = [[Cell("1"), Cell("2")], [Cell("2"), Cell("–")]]
    marked = mark_best(rows, [[1.0, 2.0], [2.0, None]])
    assert [[cell.best for cell in row] for row in marked] == [[False, True], [True, False]]
