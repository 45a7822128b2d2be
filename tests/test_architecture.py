"""The structure: layers, no torch where none belongs, sizes, and what the documents promise."""

import ast
import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tenbin"
FILES = sorted(SOURCE.rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
MOST_FILE_LINES = 350
MOST_FUNCTION_LINES = 60

# An exception stands here with its reason; without one the limit holds.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS = {
    "study/planning.py:plan_model": "one straight line from lengths to plan; every part is a call",
}


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout


@pytest.mark.parametrize(
    "module", ["tenbin.cli", "tenbin.config", "tenbin.data.load", "tenbin.evaluation", "tenbin.report"]
)
def test_no_torch_is_loaded(module):
    loaded = run_python(
        f"import sys, {module}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_help_is_quick():
    best = min(_help_seconds() for _ in range(3))
    assert best < 0.5


def _help_seconds():
    """Of processor time: what the clock shows on a machine that does nothing else."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "tenbin.cli", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_layers_hold():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_are_short_and_say_what_they_hold(path):
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(SOURCE))
    assert ast.get_docstring(ast.parse(text)), "the first line says what the file holds"
    assert len(text.splitlines()) <= MOST_FILE_LINES or name in LONG_FILES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MOST_FUNCTION_LINES or f"{name}:{node.name}" in LONG_FUNCTIONS, node.name


def test_exceptions_are_still_needed():
    for name in LONG_FILES:
        assert len((SOURCE / name).read_text(encoding="utf-8").splitlines()) > MOST_FILE_LINES
    for place in LONG_FUNCTIONS:
        name, function = place.split(":")
        tree = ast.parse((SOURCE / name).read_text(encoding="utf-8"))
        (node,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function]
        assert node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES


def test_no_utils():
    assert not [path for path in FILES if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_every_dependency_is_pinned_in_the_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(d for e in project["optional-dependencies"].values() for d in e)]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    names = {dependency.split(">")[0].split("=")[0].lower().replace("_", "-") for dependency in wanted}
    assert names - pinned - {"datasets"} == set()


@pytest.mark.parametrize("readme", ["README.md", "README.ja.md"])
def test_the_readme_has_a_line_for_every_file(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    missing = [
        str(path.relative_to(SOURCE))
        for path in FILES
        if path.name != "__init__.py" and f" {path.name} " not in f"{text} ".replace("\n", " ")
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    wrong = []
    for target, name, heading in links(page):
        if not target.exists() or (heading and heading not in headings(target)):
            wrong.append(f"{name}#{heading}")
    assert not wrong


@pytest.mark.parametrize("readme", ["README.md", "README.ja.md"])
def test_the_readme_leads_to_every_page_of_the_guide(readme):
    linked = {target for target, _, _ in links(ROOT / readme)}
    assert {page.name for page in (ROOT / "docs" / "guide").glob("*.md") if page not in linked} == set()


def links(page):
    """(file, as it is written, heading or "") of every link of a page that stays within the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    parts = [link.partition("#") for link in found if "://" not in link]
    return [((page.parent / name).resolve() if name else page, name, heading) for name, _, heading in parts]


def headings(page):
    """The headings of a page as links name them: small letters, hyphens, no other signs."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_nothing_speaks_of_the_workplace():
    words = ("/wor" + "k/", "/tm" + "p/")
    for path in [*FILES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in words if word in text], path
