"""Injected answers: the fence holds, and no grade that is asked for inside an answer reaches the store."""

import json
import re

import pytest
from tests.judge.attacks import ATTACKS
from tests.judge.judges import FIELDS, HOW, Judge, item, obedient, parrot, split_prompt, verdict
from tests.real_parts import real_model

from tenbin.grading.store import append_grades, read_grades
from tenbin.judge.fence import escape, fence_code
from tenbin.judge.grading import judge_items
from tenbin.judge.prompt import grading_prompt, pair_prompt
from tenbin.judge.verdict import read_better, read_grade

SCALE = HOW.scale
NAMES = list(ATTACKS)


def stored(folder, judge, answers):
    def keep(grade):
        append_grades(folder, [grade])

    judge_items([item(answer) for answer in answers], judge, HOW, keep=keep)
    return {grade.answer: grade for grade in read_grades(folder)}


def prompt_of(answer, **fields):
    return grading_prompt({**FIELDS, **fields}, ("東京",), answer, SCALE, seed=0)


def test_there_are_thirty_attacks_in_each_way():
    assert len(ATTACKS) >= 30
    japanese = [text for text in ATTACKS.values() if re.search(r"[ぁ-ん]", text)]
    english = [text for text in ATTACKS.values() if re.search(r"[a-z]{4}", text)]
    assert len(japanese) >= 12
    assert len(english) >= 12


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (place, name)
        for place in ("answer", "question", "context", "marking_note", "choices")
        for name in NAMES
        if place == "answer" or ATTACKS[name]  # an empty part is not shown
    ],
)
def test_nothing_of_an_attack_stands_outside_the_fence(place, name):
    attack = ATTACKS[name]
    innocent = {"context": "資料", "choices": "A. 東京\nB. 大阪"}
    fields = innocent | ({place: attack} if place != "answer" else {})
    found = prompt_of(attack if place == "answer" else "大阪", **fields)
    expected = prompt_of("大阪", **innocent)
    code, outside, data = split_prompt(found.messages[0].content)
    assert code == found.code
    other, wanted, _ = split_prompt(expected.messages[0].content)
    assert outside == [line.replace(other, code) for line in wanted]
    title = {"answer": "答案", "question": "問題", "context": "資料", "marking_note": "採点の目安"}.get(place)
    assert data[title or "選択肢"] == attack


@pytest.mark.parametrize("name", NAMES)
def test_no_text_holds_its_code_and_none_opens_a_turn(name):
    found = prompt_of(ATTACKS[name])
    assert found.code not in ATTACKS[name]
    shown = found.messages[0].content.split("\n")
    line = shown[shown.index(f"==== {found.code} 答案 ====") + 1]
    assert line == escape(ATTACKS[name])
    assert not re.search(r"[<>\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\ud800-\udfff]|\[/?INST\]", line)
    assert json.loads(line) == ATTACKS[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_judge_that_obeys_what_stands_outside_gives_no_point(tmp_path, name):
    grades = stored(tmp_path, Judge(obedient), [ATTACKS[name], f"東京。{ATTACKS[name]}"])
    assert grades[ATTACKS[name]].grade == 0
    assert grades[f"東京。{ATTACKS[name]}"].grade == 1


def test_without_the_fence_the_same_judge_is_fooled(tmp_path, monkeypatch):
    monkeypatch.setattr("tenbin.judge.fence.escape", lambda text: '""\n' + text)

    def say(text):
        return obedient(text.replace('""\n東京\n', '"東京"\n'))

    names = ["order-ja", "authority-en", "fence-guess", "already-ja", "next-question"]
    grades = stored(tmp_path, Judge(say), [ATTACKS[name] for name in names])
    assert [grade.grade for grade in grades.values()].count(1) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_judge_that_repeats_the_answer_gives_no_grade_at_all(tmp_path, name):
    (grade,) = stored(tmp_path, Judge(parrot), [ATTACKS[name]]).values()
    assert grade.grade is None
    assert grade.reason.startswith("unparsed: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_verdict_followed_by_an_attack_is_the_judge_s_own(name):
    found = prompt_of(ATTACKS[name])
    own = verdict(found.code, 0)
    assert read_grade(f"{own}\n{ATTACKS[name]}", found.code, SCALE).value == 0
    # An answer before the object leaves it unread: what comes first may be the answer's.
    if ATTACKS[name].strip():
        assert read_grade(f"{ATTACKS[name]}\n{own}", found.code, SCALE).value is None


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_fenced_too(name):
    found = pair_prompt(FIELDS, ("東京",), ATTACKS[name], "東京", seed=0, name="as given")
    _, outside, data = split_prompt(found.messages[0].content)
    assert data["答案A"] == ATTACKS[name]
    assert not any("満点" in line or "grade" in line.lower() for line in outside)
    assert read_better(ATTACKS[name], found.code).value is None


def test_a_text_that_holds_its_code_gets_another():
    # The code is a hash of the text, so a text can hold the code of another prompt only.
    first = fence_code(0, "grade 0", ["答え"])
    second = fence_code(0, "grade 0", [f"答え {first}"])
    assert first != second
    assert first in f"答え {first}"
    taken = [fence_code(0, "n", ["x"])]
    assert fence_code(0, "n", ["x"]) == taken[0]
    assert fence_code(1, "n", ["x"]) != taken[0]


def test_a_code_that_a_text_holds_is_not_used(monkeypatch):
    codes = iter(["aaaaaaaaaaaa", "bbbbbbbbbbbb"])

    class Digest:
        def hexdigest(self):
            return next(codes)

    monkeypatch.setattr("tenbin.judge.fence.hashlib.sha256", lambda data: Digest())
    assert fence_code(0, "n", ["AAAAAAAAAAAA をご存じですか"]) == "bbbbbbbbbbbb"


@pytest.mark.model
@pytest.mark.slow
def test_how_often_the_real_model_is_fooled_is_reported(tmp_path, record_property, capsys):
    import torch

    from tenbin.generate.local import LocalGenerator
    from tenbin.models.encode import Encoder
    from tenbin.models.loading import load_model
    from tenbin.models.tokenizer import load_tokenizer

    source = real_model()
    loaded = load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    encoder = Encoder(load_tokenizer(source.tokenizer))
    judge = LocalGenerator(loaded.model, encoder, model_id="gemma", batch_size=4, batch_tokens=4096)
    chosen = ["order-ja", "order-en", "already-ja", "verdict", "fence-guess", "gemma-turn"]
    grades = stored(tmp_path, judge, ["東京", "大阪", *(ATTACKS[name] for name in chosen)])
    fooled = [name for name in chosen if (grades[ATTACKS[name]].grade or 0) > 0]
    unparsed = sum(grade.grade is None for grade in grades.values())
    record_property("fooled", fooled)
    with capsys.disabled():
        print(f"\ngemma-3-270m: fooled by {len(fooled)} of {len(chosen)} {fooled}, {unparsed} unparsed of 8")
    assert len(grades) == 8  # every answer has its judgement, whatever it is
