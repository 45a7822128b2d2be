"""Study folders of question banks, answered by fake models whose every answer a test chooses."""

import json
from importlib.resources import files

from tests.tasks.conformance import Fake

from tenbin.evaluation import evaluate
from tenbin.grading.items import collect_items, finished_runs
from tenbin.grading.store import Grade
from tenbin.runs import RunResult, RunSpec
from tenbin.study.prepare import prepare, write_prepared

ROWS = [
    {
        "id": "q1",
        "category": "知識",
        "question": "首都は？",
        "choices": ["大阪", "東京", "京都"],
        "reference": "東京",
        "grade": "choice",
    },
    {
        "id": "q2",
        "category": "計算",
        "question": "値段は？",
        "reference": "300円",
        "grade": "number",
        "unit": "円",
        "points": 2,
    },
    {
        "id": "q3",
        "category": "記述",
        "question": "理由は？",
        "context": "雨が降ったので、試合は中止になった。",
        "reference": ["雨のため", "雨天"],
        "marking_note": "1点:雨に触れている。",
        "points": 3,
    },
    {
        "id": "q4",
        "category": "記述",
        "question": "感想は？",
        "reference": "よい",
        "grade": "people",
        "marking_note": "よければ1点。",
    },
]
ANSWERS = {
    "alpha": ["東京", "300円", "雨が降ったから", "よい"],
    "beta": ["答えは大阪です", "約200円", "雨が降ったから", "=1+1"],
    "gamma": ["大阪か京都", "", "わからない", None],
}


def study_file(folder, rows=None, **grading):
    """A study of a bank with three models that nobody loads."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in (ROWS if rows is None else rows)]
    (folder / "bank.jsonl").write_text("".join(lines), encoding="utf-8")
    settings = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in grading.items())
    models = "".join(f'[[model]]\nsource = "{name}"\n' for name in ANSWERS)
    path = folder / "study.toml"
    path.write_text(
        'name = "bank"\ntask = "question_bank"\noutput = "results"\n[data]\ntrain = "bank.jsonl"\n'
        'test = "bank.jsonl"\nsplit = { validation = 0, test = 0 }\n'
        f"{models}[training]\nlearning_rates = []\n[grading]\n{settings}",
        encoding="utf-8",
    )
    return path


def answered(folder, rows=None, answers=None, **grading):
    """The study folder with one finished run a model."""
    prepared = prepare(study_file(folder, rows, **grading))
    write_prepared(prepared)
    for name, says in (ANSWERS if answers is None else answers).items():
        answer_with(prepared, name, Fake(says))
    return prepared.folder


def answer_with(prepared, name, generator):
    """One finished run."""
    test = prepared.splits.test
    spec = RunSpec(
        kind="eval", model=name, source=name, model_fingerprint=f"{name}-weights", task="question_bank"
    )
    run = prepared.folder.run(spec)
    run.start({})
    result = evaluate(prepared.task, test.examples, generator, split="test", dataset=test.fingerprint)
    run.write_rows("test", result.rows)
    kept = {"test": type(result)(**{**_fields(result), "rows": ()})}
    run.finish(RunResult(spec=spec, results=kept, evaluate_s=1.0))
    return run


def _fields(result):
    return {name: getattr(result, name) for name in result.__dataclass_fields__}


def sample_rows():
    """The 13 questions that tenbin ships."""
    text = (files("tenbin") / "samples" / "question_bank.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def person(item, value, grader="佐藤", **changes):
    fields = {
        "question": item.question,
        "version": item.version,
        "answer": item.answer,
        "extracted": item.extracted,
        "grade": value,
        "scale": (0.0, 0.5, 1.0),
        "kind": "person",
        "grader": grader,
        "reason": "",
        "time": "",
    }
    return Grade(**{**fields, **changes})


def items_by_answer(study):
    return {(i.question, i.answer): i for i in collect_items(finished_runs(study))}
