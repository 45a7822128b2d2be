"""Study folders built with the real run folder: two models, four learning rates, hostile text."""

import json
import random
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

from tenbin.runs import EpochRecord, RunResult, RunSpec, StudyFolder
from tenbin.stats import Undefined, mean_interval, wilson
from tenbin.types import EvalResult, EvalRow, MetricSummary

RATES = (2e-4, 5e-5, 2e-5, 1e-5)
MODELS = ("kasuga-13b", "tanuki-1.8b")
HOSTILE = (
    "<script>alert(1)</script>",
    "</svg></pre><img src=x onerror=alert(2)>",
    "{{7*7}}{% raw %}${jndi:ldap://x}",
    "# 見出し\n* **太字** [link](javascript:alert(3)) | a | b |\n```\ncode\n```",
    "肯定" + "とても長い答え。" * 900,
    "ベル\x07とエスケープ\x1b[31m赤\x00 次\u2028行\u0085",
    "壊れた文字 \ud83d と右書き \u202etxt.exe",
)
POSITIVE = (
    "川の音で目が覚める朝なんて何年ぶりだろう。露天のぬるめの湯に一時間近く浸かってしまいました。",
    "駅から徒歩二分、チェックイン三十秒。出張にはこれで十分どころか十二分。",
    "朝食の焼き魚が絶品。子ども用の椅子もすぐに出していただけて助かりました。",
)
NEGATIVE = (
    "料理は美味しかったのですが、夜十一時を過ぎても隣の宴会の声が筒抜けで、眠れませんでした。",
    "予約の確認が取れていないと言われ、ロビーで四十分待たされた。説明も謝罪もなし。",
)
METRICS = {
    "classification": (
        ("accuracy", "Accuracy", "right answers / examples; answer = first word of the completion"),
        ("mcc", "MCC", "Matthews correlation"),
    ),
    "reading": (
        ("jsquad_f1", "F1", "character F1, maximum over the references; JGLUE 1.3.0"),
        ("jsquad_em", "EM", "exact match after JGLUE's normalization, maximum over the references"),
    ),
    "summarization": (
        ("rouge1", "ROUGE-1", "F1 of unigrams, MeCab with unidic-lite 1.0.8, XL-Sum's scorer"),
    ),
}
SKILL = {
    "classification": {"kasuga-13b": (0.60, 0.93), "tanuki-1.8b": (0.45, 0.91)},
    "reading": {"kasuga-13b": (0.42, 0.86), "tanuki-1.8b": (0.35, 0.70)},
    "summarization": {"kasuga-13b": (0.24, 0.37), "tanuki-1.8b": (0.20, 0.33)},
}


def make_study(
    path: Path,
    task: str = "classification",
    *,
    n: int = 120,
    same_set: bool = False,
    skill: dict[str, tuple[float, float]] | None = None,
    unfinished: bool = True,
    baseline_rows: bool = True,
    baseline: float = 0.8,
) -> StudyFolder:
    """A study of two models by four learning rates; one run failed, one stopped, one never began."""
    study = StudyFolder(path)
    skills = skill or SKILL[task]
    split = "validation" if same_set else "test"
    (path / "runs").mkdir(parents=True)
    (path / "study.toml").write_text(STUDY_TOML.format(task=task), encoding="utf-8")
    for model in MODELS:
        base, top = skills[model]
        _write_base(study, task, model, base, n, split)
        for position, rate in enumerate(RATES):
            if unfinished and model == "tanuki-1.8b" and rate == 1e-5:
                continue  # not begun
            run_state = "done"
            if unfinished and model == "tanuki-1.8b" and rate == 2e-5:
                run_state = "failed"
            if unfinished and model == "kasuga-13b" and rate == 1e-5:
                run_state = "stopped"
            _write_run(study, task, model, rate, top - 0.03 * position, n, split, run_state)
    study.write("data.json", _data(task, n, split, same_set, baseline_rows, baseline))
    study.write("inspection.json", _inspection(task, n, split))
    study.write("plan.json", {"models": [_plan(model) for model in MODELS]})
    return study


STUDY_TOML = """name = "hotel-reviews"
task = "{task}"

[data]
train = "口コミ<2026>.xlsx"

[[model]]
source = "/models/kasuga-13b"
name = "kasuga-13b"

[[model]]
source = "/models/tanuki-1.8b"
name = "tanuki-1.8b"

[training]
learning_rates = [2e-4, 5e-5, 2e-5, 1e-5]
seeds = [0]
epochs = 3

[evaluation]
base_model = true
level = 0.95
"""


def spec_of(task: str, model: str, rate: float | None) -> RunSpec:
    return RunSpec(
        kind="eval" if rate is None else "train",
        model=model,
        source=f"/models/{model}",
        model_fingerprint=f"{model}-weights",
        task=task,
        learning_rate=rate,
        seed=None if rate is None else 0,
        settings={"lora": {"rank": 16}, "training": {"epochs": 3}},
    )


def make_rows(task: str, seed: str, skill: float, n: int, hostile: bool = False) -> tuple[EvalRow, ...]:
    """Rows whose difficulty belongs to the example, so that systems agree as real ones do."""
    rng = random.Random(seed)
    hard = random.Random("difficulty")
    return tuple(_row(task, index, hard.random(), skill, rng, hostile) for index in range(n))


def _row(task: str, index: int, hard: float, skill: float, rng: random.Random, hostile: bool) -> EvalRow:
    negative = index % 5 == 4
    text = (NEGATIVE if negative else POSITIVE)[index % (2 if negative else 3)]
    right = skill + 0.25 * (rng.random() - 0.5) > hard
    if task == "classification":
        reference = "negative" if negative else "positive"
        answer: str | None = reference if right else ("positive" if negative else "negative")
        scores = {"accuracy": float(right), "mcc": float(right)}
        prompt = f"次の文章を positive か negative に分類してください。\n\n### 文章\n{text}\n\n### 分類\n"
    elif task == "reading":
        reference = "午後三時"
        answer = reference if right else "午後三時から"
        f1 = 1.0 if right else round(rng.uniform(0, 0.9), 4)
        scores = {"jsquad_f1": f1, "jsquad_em": float(right)}
        prompt = f"文脈: {text * 6}\n質問: 受付は何時からですか。\n答え: "
    else:
        reference = "市は来春から図書館の開館時間を延ばすと発表した。"
        answer = "市は図書館の開館時間を延ばす。" if right else "図書館は町の中心にある。"
        scores = {"rouge1": round(min(1.0, max(0.0, skill + rng.gauss(0, 0.1) - 0.1 * (hard - 0.5))), 4)}
        prompt = f"次の文書を一、二文で要約してください。\n\n### 文書\n{text * 20}\n\n### 要約\n"
    completion = f"{answer}\n"
    if hostile and not right and index % 2 == 0:
        completion = HOSTILE[index // 2 % len(HOSTILE)]
        answer = None if index % 4 == 0 else completion
        scores = dict.fromkeys(scores, 0.0)
    return EvalRow(
        id=f"t{index:04d}",
        prompt=prompt,
        completion=completion,
        stop_reason="length" if len(completion) > 1000 else "stop",
        answer=answer,
        references=(reference,),
        scores=scores,
        input_tokens=40 + len(prompt) // 2,
        output_tokens=3,
        group=f"passage-{index // 3}" if task == "reading" else None,
    )


def evaluate(task: str, name: str, split: str, rows: tuple[EvalRow, ...]) -> EvalResult:
    metrics = []
    for metric, title, definition in METRICS[task]:
        scores = [s for row in rows if (s := row.scores[metric]) is not None]
        if metric in {"accuracy", "jsquad_em"}:
            found = wilson(sum(scores), len(scores))
        else:
            groups = [row.group or row.id for row in rows if row.scores[metric] is not None]
            found = mean_interval(scores, groups=groups if task == "reading" else None)
        undefined = isinstance(found, Undefined) or metric == "mcc"
        metrics.append(
            MetricSummary(
                metric=metric,
                name=title,
                definition=definition,
                estimate=None if undefined else found,
                reason="one category only was answered" if undefined else None,
            )
        )
    return EvalResult(
        task=task,
        model_id=name,
        split=split,
        dataset=f"data-{split}",
        template="template-1",
        metrics=tuple(metrics),
        num_examples=len(rows),
        num_errors=sum(row.error is not None for row in rows),
        num_unparsed=sum(row.answer is None and row.error is None for row in rows),
    )


def write_rows(run_path: Path, name: str, rows: tuple[EvalRow, ...]) -> None:
    """As ASCII JSON, so that a lone surrogate can be stored too."""
    lines = (json.dumps(asdict(row)) + "\n" for row in rows)
    (run_path / "predictions").mkdir(exist_ok=True)
    (run_path / "predictions" / f"{name}.jsonl").write_text("".join(lines), encoding="ascii")


def _write_base(study: StudyFolder, task: str, model: str, skill: float, n: int, split: str) -> None:
    run = study.run(spec_of(task, model, None))
    run.start({"packages": {"torch": "2.13.0"}, "device": "NVIDIA H200"})
    rows = make_rows(task, f"{model} base", skill, n, hostile=True)
    rows = (
        replace(rows[0], scores=dict.fromkeys(rows[0].scores), error="out of memory", answer=None),
        *rows[1:],
    )
    write_rows(run.path, split, rows)
    run.finish(
        RunResult(
            spec=run.spec,
            results={split: evaluate(task, model, split, rows)},
            evaluate_s=0.05 * n * (4 if "13b" in model else 1),
            peak_mib=26_000 if "13b" in model else 4_100,
            device="NVIDIA H200",
            dtype="bf16",
        )
    )


def _write_run(
    study: StudyFolder, task: str, model: str, rate: float, skill: float, n: int, split: str, state: str
) -> None:
    run = study.run(spec_of(task, model, rate))
    run.start({"packages": {"torch": "2.13.0"}, "device": "NVIDIA H200"})
    rng = random.Random(f"{model}{rate}")
    speed = 0.02 * (rate / 1e-5) ** 0.4
    last = 300 if state == "done" else 110
    for step in range(1, last + 1):
        loss = 0.25 + 2.2 / (1 + speed * step) + 0.06 * rng.random()
        run.log("step", step=step, epoch=1 + (step - 1) // 100, loss=loss)
    if state == "failed":
        run.log("failed", error="CUDA out of memory: 45,900 of 46,000 MiB <b>")
    if state != "done":
        return
    epochs = []
    for epoch in (1, 2, 3):
        rows = make_rows(task, f"{model}{rate}{epoch}v", skill - (0.05, 0.0, 0.02)[epoch - 1], n)
        validation = evaluate(task, model, "validation", rows)
        if split == "validation":
            write_rows(run.path, f"validation-epoch-{epoch:02d}", rows)
        epochs.append(
            EpochRecord(
                epoch=epoch, step=100 * epoch, train_loss=1 / epoch, validation=validation, seconds=60.0
            )
        )
    metric = METRICS[task][0][0]
    best = max(epochs, key=lambda e: e.validation.metric(metric).estimate.value)
    rows = make_rows(task, f"{model}{rate}test", skill, n, hostile=rate == 5e-5)
    if split == "test":
        write_rows(run.path, "test", rows)
    result = evaluate(task, model, "test", rows) if split == "test" else best.validation
    run.finish(
        RunResult(
            spec=run.spec,
            epochs=tuple(epochs),
            best_epoch=best.epoch,
            selected_on=f"validation {metric}",
            results={split: result},
            train_s=5400 if "13b" in model else 912,
            evaluate_s=340.0,
            train_tokens=2_400_000,
            train_examples=4_800,
            peak_mib=45_200 if "13b" in model else 9_800,
            device="NVIDIA H200",
            dtype="bf16",
        )
    )


def _data(
    task: str, n: int, split: str, same_set: bool, baseline_rows: bool, skill: float
) -> dict[str, object]:
    name = "lead sentence" if task == "summarization" else "majority category"
    rows = make_rows(task, "baseline", 0.18 if task == "summarization" else skill, n)
    result = {
        **asdict(evaluate(task, name, split, rows)),
        "rows": [asdict(r) for r in rows] if baseline_rows else [],
    }
    splits = {"train": 4800, "validation": 120} | ({} if same_set else {"test": n})
    return {
        "task": task,
        "template": "次の文章を分類してください。\n\n$text\n\n<b>$response</b>",
        "categories": ["positive", "negative"] if task == "classification" else [],
        "headline": METRICS[task][0][0],
        "splits": {
            s: {"file": "口コミ<2026>.xlsx", "num_examples": size, "fingerprint": f"data-{s}"}
            for s, size in splits.items()
        },
        "notes": ["3 rows of 口コミ<2026>.xlsx have an empty text and were left out"],
        "baselines": {} if task == "reading" else {split: [{"name": name, "result": result}]},
        "same_set": same_set,
    }


def _plan(model: str) -> dict[str, object]:
    weights = 26_000_000_000 if "13b" in model else 3_600_000_000
    return {
        "model": model,
        "fits": True,
        "terms": {"weights": weights, "activations": 9_000_000_000},
        "total_bytes": weights + 9_000_000_000,
        "max_length": 1024 if "13b" in model else 1700,
    }


def _inspection(task: str, n: int, split: str) -> dict[str, object]:
    fields = {
        "classification": {"本文": 60, "reference": 8},
        "reading": {"passage": 190, "question": 28, "reference": 6},
        "summarization": {"title": 22, "text": 1500, "reference": 70},
    }[task]
    lengths = []
    for name, size in (("train", 4800), (split, n)):
        for field, mean in {**fields, "whole example": sum(fields.values())}.items():
            for unit in ("characters", *MODELS):
                lengths.append(_lengths(name, field, unit, mean, size))
    cuts = [
        {"split": "train", "model": model, "max_length": limit, "rows": 0.4 / (i + 1) ** 2, "answers": 0.0}
        for model in MODELS
        for i, limit in enumerate((256, 512, 1024, 1700, 2048, 4096))
    ]
    counts = {
        "train": {"positive": 3840, "negative": 960},
        split: {"positive": n * 4 // 5, "negative": n // 5},
    }
    return {
        "task": task,
        "num_examples": {"train": 4800, split: n},
        "num_groups": {"train": 300, split: 12},
        "fingerprints": {},
        "categories": counts if task == "classification" else {},
        "lengths": lengths,
        "tokens_per_character": {"kasuga-13b": 0.62, "tanuki-1.8b": 0.71},
        "cuts": cuts,
        "leaks": [],
        "findings": [
            {
                "kind": "duplicates",
                "split": "train",
                "num": 12,
                "text": "examples whose inputs another one has already (after NFKC)",
                "places": ["口コミ<2026>.xlsx[Sheet1]!A17 = 口コミ<2026>.xlsx[Sheet1]!A90"],
            }
        ],
        "notes": ["12 rows have <i>markup</i> in their text"],
    }


def _lengths(split: str, field: str, unit: str, mean: float, size: int) -> dict[str, object]:
    rng = random.Random(f"{split}{field}{unit}")
    values = sorted(int(rng.gammavariate(6, mean / 6)) + 1 for _ in range(min(size, 1500)))
    top = values[int(0.99 * len(values))] + 1
    width = max(1, -(-top // 40))
    edges = [*range(0, top + width, width), max(values[-1] + 1, top + 2 * width)]
    counts = [sum(low <= v < high for v in values) for low, high in pairwise(edges)]
    return {
        "split": split,
        "field": field,
        "unit": unit,
        "num": size,
        "mean": sum(values) / len(values),
        "median": float(values[len(values) // 2]),
        "max": values[-1],
        "edges": edges,
        "counts": counts,
    }
