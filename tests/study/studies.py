"""Small studies, whole: a random model with a tokenizer of bytes, data of every task, and a study file."""

import json

import tomli_w
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from tenbin.study.run import run_study
from tenbin.study.screen import SilentScreen

GOOD = ("部屋が広くて快適", "朝食が豪華", "駅から近くて便利", "眺めが最高だった", "また泊まりたい宿")
BAD = (
    "壁が薄くて眠れない",
    "掃除が行き届かない",
    "予約が通っていない",
    "食事が冷めていた",
    "二度と行かない宿",
)
DATA = {"classification": "reviews.jsonl", "reading": "handbook.jsonl", "summarization": "notices.jsonl"}


def reviews(num=30):
    """Four in five are good."""
    texts = [(GOOD[i % 5] if i % 5 else BAD[i // 5 % 5]) + f"、{i}号室。" for i in range(num)]
    return [{"text": text, "category": "良い" if i % 5 else "悪い"} for i, text in enumerate(texts)]


def rows_of(task, num=30):
    if task == "classification":
        return reviews(num)
    if task == "reading":
        return [
            {
                "id": str(i),
                "passage": f"第{i}倉庫の鍵は{i}番の棚にある。",
                "question": "鍵はどこにあるか。",
                "answer": f"{i}番の棚",
            }
            for i in range(num)
        ]
    texts = [f"第{i}回の会議は{i % 12 + 1}月に開く。場所は本社の大会議室。" for i in range(num)]
    return [{"text": text, "summary": text.split("。")[0] + "。"} for text in texts]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def tiny_folder(folder, *, positions=512, seed=0):
    """A Llama of two small blocks that reads and writes UTF-8, a byte a token."""
    torch.manual_seed(seed)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(vocab),
        max_position_embeddings=positions,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


def write_study(folder, task="classification", *, rows=None, **sections):
    """The study file of a small study: model, data and settings beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        tiny_folder(folder / "model")
    write_rows(folder / DATA[task], rows_of(task) if rows is None else rows)
    study = {
        "name": "small",
        "task": task,
        "output": "results",
        "data": {"train": DATA[task], "split": {"validation": 0.2, "test": 0.2, "seed": 0}},
        "model": [{"source": "model", "name": "tiny"}],
        "lora": {"rank": 4, "alpha": 8.0},
        "training": {"learning_rates": [0.01], "epochs": 2, "batch_size": 4, "dtype": "fp32"},
        "generation": {"max_new_tokens": 8},
    }
    for name, values in sections.items():
        study[name] = {**study.get(name, {}), **values} if isinstance(values, dict) else values
    study["data"] = {key: value for key, value in study["data"].items() if value is not None}
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(study), encoding="utf-8")
    return path


class Told(SilentScreen):
    """Keeps what was said and which bars there were."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def stage(self, title):
        self.lines.append(title)


def run(path, **overrides):
    """Run a study offline: the result and what was said."""
    screen = Told()
    result = run_study(
        path, overrides=overrides, cache_dir=path.parent / "cache", offline=True, screen=screen
    )
    return result, screen.lines


def contents(folder):
    """Every file below a folder: its bytes and when it was written."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
