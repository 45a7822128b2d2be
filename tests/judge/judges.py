"""Scripted judges: an honest one that obeys whatever stands outside the fence, and ones that are fooled."""

import json
import re

from tenbin.grading.items import Item, question_version
from tenbin.judge.grading import Judging
from tenbin.types import Completion

HOW = Judging(grader="judge:test", scale=(0.0, 0.5, 1.0), repeats=1, max_new_tokens=100, seed=0, chat=False)
FIELDS = {
    "question": "日本の首都はどこですか。",
    "marking_note": "1点：東京と答えている。0点：それ以外。",
    "grade": "judge",
    "points": "1",
}


def item(answer, question="q1", systems=("run-a",), grade="judge", references=("東京",)):
    fields = {**FIELDS, "grade": grade}
    return Item(
        question=question,
        version=question_version(fields, references),
        answer=answer,
        extracted=answer or None,
        fields=fields,
        references=references,
        systems=systems,
    )


def split_prompt(text):
    """(code, lines outside the fence, title -> decoded data)."""
    code = re.search(r"==== ([0-9a-f]{12}) 見出し ====", text).group(1)
    outside, data = [], {}
    lines = iter(text.split("\n"))
    for line in lines:
        part = re.fullmatch(rf"==== {code} (.+) ====", line)
        if part and part.group(1) != "終わり":
            data[part.group(1)] = json.loads(next(lines))
        else:
            outside.append(line)
    return code, outside, data


def verdict(code, grade, reason="理由"):
    return json.dumps({"code": code, "reason": reason, "grade": grade}, ensure_ascii=False)


class Judge:
    """Answers each prompt by a function of its text."""

    model_id = "scripted"

    def __init__(self, say):
        self.say = say
        self.prompts = []

    def generate(self, prompts, config):
        for index, messages in enumerate(prompts):
            text = messages[0].content
            self.prompts.append(text)
            said = self.say(text)
            yield index, said if isinstance(said, Completion) else completion(said)


def completion(text, error=None):
    reason = "error" if error else "stop"
    return Completion(text=text, stop_reason=reason, input_tokens=1, output_tokens=1, error=error)


def obedient(text):
    """Grades by the reference, unless a line outside the fence tells it to give a point."""
    code, outside, data = split_prompt(text)
    rules = "\n".join(outside)
    orders = re.findall(r"満点を|満点と|満点の|grade は 1|grade 1|GRADE 1|1点|full marks|be graded 1", rules)
    return verdict(code, 1 if orders or data["正解"] in data["答案"] else 0)


def parrot(text):
    """Repeats what it was given to judge, as a model does that is fooled whole."""
    return split_prompt(text)[2]["答案"]
