"""A drawing of `bench` as a process, twice on a copy of the performance page: it fills its parts again."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def written(folder, lines):
    """A file of the lines."""
    path = folder / "run.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return path


def drawn_page(script, folder, lines):
    """(page, image); the second drawing changes nothing."""
    page, image = folder / "performance.md", folder / "i" / "a.svg"
    page.write_text((ROOT / "docs/performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, ROOT / "bench" / script, written(folder, lines), "--image", image]
    texts = []
    for _ in range(2):
        subprocess.run([*command, "--write", page], check=True, capture_output=True)
        texts.append(page.read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert "](i/a.svg)" in texts[0]
    return texts[0], image.read_text(encoding="utf-8")
