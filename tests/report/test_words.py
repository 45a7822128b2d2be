import re
import string
from pathlib import Path

import tenbin.report
from tenbin.report.words import LANGUAGES, Words, catalogue


def entries():
    return [(f"{s}.{k}", texts) for s, section in catalogue().items() for k, texts in section.items()]


def fields(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_are_complete_and_use_the_same_values():
    for key, texts in entries():
        assert set(texts) == set(LANGUAGES), key
        assert all(text.strip() for text in texts.values()), key
        assert fields(texts["en"]) == fields(texts["ja"]), key


def test_the_japanese_is_japanese():
    same = {"table.n", "table.p"}
    for key, texts in entries():
        if key not in same:
            assert re.search(r"[ぁ-んァ-ヶ一-龥○]", texts["ja"]), key
            assert not re.search(r"[ぁ-んァ-ヶ一-龥]", texts["en"]), key


def test_no_text_is_left_over():
    package = Path(tenbin.report.__file__).parent
    files = [*package.glob("*.py"), *(package.parent / "sheets").glob("*.py")]
    source = "".join(p.read_text(encoding="utf-8") for p in files)
    source += (package.parent / "templates" / "report.html").read_text(encoding="utf-8")
    made = re.compile(r"baseline\.|paper_|over_baseline_interval|not_begun|_one$")  # made of parts
    assert [
        k for k, _ in entries() if not made.search(k) and not re.search(rf"\b{k.split('.')[1]}\b", source)
    ] == []


def test_lists_are_cut_with_their_number():
    assert Words("en").listed(["a", "b"]) == "a, b"
    assert Words("en").listed(list("abcdef")) == "a, b, c, d, +2"
    assert Words("ja").listed(list("abcdef")) == "a、b、c、d、ほか 2 件"


def test_one_thing_is_said_in_the_singular():
    say = Words("en")
    assert say("caution.left_out", n=1, names="a").startswith("1 result is left out because it cannot")
    assert say("caution.left_out", n=2, names="a").startswith("2 results are left out because they cannot")
    for key, texts in entries():
        if key.endswith("_one"):
            assert texts.keys() == catalogue()[key.split(".")[0]][key.split(".")[1][: -len("_one")]].keys()
