"""The works of `tenbin bench` as batches of other tools: padded, or packed without shared prefixes."""

import random

import torch

from tenbin.bench_works import QUESTIONS

PADDED_BATCH = 16
PACKED_TOKENS = 4096
IGNORED = -100
"""Label of a token that is no target, as transformers has it."""


def batches(work, system, device):
    """[(inputs of the model, tokens without padding, targets, examples)], and what differs from tenbin's."""
    if work.name != QUESTIONS:
        ids = torch.tensor([[*e.prompt_ids, *e.target_ids] for e in work.examples], device=device.torch)
        count = ids.shape[0] * (ids.shape[1] - 1)
        return [({"input_ids": ids, "labels": ids}, ids.numel(), count, ids.shape[0])], None
    examples = list(work.examples)
    random.Random(0).shuffle(examples)
    if system == "unsloth":
        rows = packed(examples)
        note = (
            f"rows of {PACKED_TOKENS} tokens packed with whole examples, no prefix shared,"
            " attention may cross from one example to the next"
        )
        return [row_batch(row, device) for row in rows], note
    groups = [examples[i : i + PADDED_BATCH] for i in range(0, len(examples), PADDED_BATCH)]
    note = f"batches of {PADDED_BATCH} padded to the longest; tokens are counted without padding"
    return [padded_batch(group, device) for group in groups], note


def packed(examples):
    """Rows of whole examples, each filled until the next does not fit."""
    rows, room = [], 0
    for example in examples:
        if len(example) > room:
            rows.append([])
            room = PACKED_TOKENS
        rows[-1].append(example)
        room -= len(example)
    return rows[:-1] or rows  # the last is not full


def sequence(example):
    return [*example.prompt_ids, *example.target_ids], [IGNORED] * len(example.prompt_ids) + list(
        example.target_ids
    )


def row_batch(row, device):
    pairs = [sequence(example) for example in row]
    ids = [i for one, _ in pairs for i in one]
    labels = [i for _, one in pairs for i in one]
    extra = max(0, PACKED_TOKENS - len(ids))  # one shape for all rows
    inputs = {
        "input_ids": torch.tensor([ids + [0] * extra], device=device.torch),
        "labels": torch.tensor([labels + [IGNORED] * extra], device=device.torch),
    }
    return inputs, len(ids), sum(i != IGNORED for i in labels), len(row)


def padded_batch(examples, device):
    longest = max(len(e) for e in examples)
    pairs = [sequence(example) for example in examples]
    inputs = {
        "input_ids": [ids + [0] * (longest - len(ids)) for ids, _ in pairs],
        "attention_mask": [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in pairs],
        "labels": [labels + [IGNORED] * (longest - len(labels)) for _, labels in pairs],
    }
    tensors = {name: torch.tensor(rows, device=device.torch) for name, rows in inputs.items()}
    return tensors, sum(map(len, examples)), sum(len(e.target_ids) for e in examples), len(examples)


def left_padded(prompts, device):
    """Inputs of `generate`: prompts that end together."""
    longest = max(map(len, prompts))
    inputs = {
        "input_ids": [[0] * (longest - len(ids)) + list(ids) for ids in prompts],
        "attention_mask": [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts],
    }
    return {name: torch.tensor(rows, device=device.torch) for name, rows in inputs.items()}
