"""Comparisons of bench/fp8_quality.py: runs that differ in one thing only, in pairs, and what chance does."""

import statistics

import numpy as np

from tenbin.stats.bootstrap import bootstrap_by_index

RESAMPLES = 1000
KEYS = ("loss_on", "base", "order", "seed")
"""What runs differ in."""


def ratio(first, other, groups=None):
    """[other's sum over first's, and its 95 % interval by drawing the pairs (or groups of them) anew].

    One pair or group alone has no interval: None, None.
    """
    first, other = np.asarray(first), np.asarray(other)
    found = bootstrap_by_index(
        len(first),
        lambda rows: float(other[rows].sum() / first[rows].sum()),
        groups=groups,
        num_resamples=RESAMPLES,
    )
    return [found.value, found.low, found.high] if found else [float(other.sum() / first.sum()), None, None]


def said(name, value, low, high):
    """`held-out loss +0.19% (+0.10% to +0.30%)`."""
    interval = "" if low is None or high is None else f" ({low - 1:+.2%} to {high - 1:+.2%})"
    return f"{name} {value - 1:+.2%}{interval}"


def pairs(results):
    """Every (what differs, first, other): of all that is alike but one thing, the first beside each other.

    `results`: of runs, in the order in which they were asked for.
    """
    found = []
    for differs in ("base", "order", "seed"):
        firsts = {}
        for result in results:
            line = result.line
            if differs == "seed" and line["base"] != results[0].line["base"]:
                continue  # chance is shown in the first type alone
            alike = tuple(line[key] for key in KEYS if key != differs)
            first = firsts.setdefault(alike, result)
            if first is not result:
                found.append((differs, first, result))
    return found


def pair(differs, first, other):
    """A line about two runs."""
    one, two = first.line, other.line
    low, high = one["interval"]
    return {
        "bench": "base-quality-pair",
        **{key: two[key] for key in ("model", "data", "steps", "batch_size", *KEYS)},
        "differs": differs,
        "against": one[differs],
        # The same batches only where nothing but the weights differs.
        "loss_ratio": ratio(first.losses, other.losses) if differs == "base" and first.losses else None,
        "held_out_ratio": ratio(first.sums, other.sums, first.groups),
        "untrained_ratio": two["untrained_loss"] / one["untrained_loss"],
        "metric": two["metric"],
        "score": two["score"],
        "score_against": one["score"],
        "interval_against": [low, high],
        "inside": low <= two["score"] <= high,
    }


def told(line):
    """`fp8 against bf16, loss on all, grouped, seed 0: loss +0.19 % (+0.10 to +0.30), ...`."""
    parts = []
    for name, key in (("loss of the last steps", "loss_ratio"), ("held-out loss", "held_out_ratio")):
        if line[key] is not None:
            parts.append(said(name, *line[key]))
    low, high = line["interval_against"]
    where = "inside" if line["inside"] else "OUTSIDE"
    both = f"{line['metric']} {line['score']:.4f} against {line['score_against']:.4f}"
    parts.append(f"{both}, {where} {low:.4f} to {high:.4f}")
    alike = [f"loss on {line['loss_on']}", *(str(line[k]) for k in ("base", "order") if k != line["differs"])]
    alike += [] if line["differs"] == "seed" else [f"seed {line['seed']}"]
    names = f"{line['differs']} {line[line['differs']]} against {line['against']}"
    return f"{names} ({', '.join(alike)}): {', '.join(parts)}"


def summaries(lines):
    """Over the pairs that differ in the same way: mean and range of the ratios."""
    found = {}
    for line in lines:
        this = line[line["differs"]] if line["differs"] != "seed" else "another"
        found.setdefault((line["differs"], this, line["loss_on"]), []).append(line)
    for (differs, this, loss_on), there in found.items():
        summary = {
            "bench": "base-quality-summary",
            **{key: there[0][key] for key in ("model", "data", "steps", "batch_size")},
            "loss_on": loss_on,
            "differs": differs,
            "value": this,
            "against": there[0]["against"] if differs != "seed" else None,
            "pairs": len(there),
            "inside": sum(line["inside"] for line in there),
        }
        for key in ("loss_ratio", "held_out_ratio"):
            values = [line[key][0] for line in there if line[key] is not None]
            summary[key] = [statistics.fmean(values), min(values), max(values)] if values else None
        yield summary


def summed_up(line):
    """`base fp8 against bf16, loss on all, 3 pairs: loss ... mean +0.2 % (+0.1 to +0.3), ...`."""
    parts = []
    for name, key in (("loss of the last steps", "loss_ratio"), ("held-out loss", "held_out_ratio")):
        if line[key] is not None:
            parts.append(said(name, *line[key]))
    parts.append(f"score inside the interval in {line['inside']} of {line['pairs']}")
    against = "" if line["against"] is None else f" against {line['against']}"
    names = f"{line['differs']} {line['value']}{against}"
    return f"{names}, loss on {line['loss_on']}, mean of {line['pairs']}: {', '.join(parts)}"
