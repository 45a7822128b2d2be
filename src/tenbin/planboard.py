"""The tables of `tenbin plan`: memory and lengths of local models, calls and money of hosted ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.table import Table

from tenbin.memory import MIB

if TYPE_CHECKING:
    from tenbin.study.asking_plan import AskingPlan
    from tenbin.study.further import Further


T = TypeVar("T")


def plan_tables(plan: Mapping[str, Any]) -> list[Table]:
    """Memory of the local models, what vLLM will be asked, calls and money of the hosted ones: if any."""
    served = [model for model in plan["models"] if "vllm" in model]
    local = [model for model in plan["models"] if "terms" in model and model not in served]
    hosted = [model for model in plan["models"] if "hosted" in model]
    kinds = ((_memory, local), (_served, served), (_calls, hosted))
    return [table(models) for table, models in kinds if models]


def _grid(
    title: str, names: Sequence[str], items: Sequence[T], rows: Mapping[str, Callable[[T], str]]
) -> Table:
    """A column for each item, a row for each thing that is said of all of them."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for what, value in rows.items():
        table.add_row(what, *(value(item) for item in items))
    return table


def _served(models: Sequence[Mapping[str, Any]]) -> Table:
    """What is still to be asked of every model that vLLM serves, and its share of the GPU."""
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "questions": lambda c: f"{c['num_prompts']:,}",
        "answers kept already": lambda c: f"{c['num_cached']:,}",
        "prompt tokens": lambda c: f"{c['input_tokens']:,}",
        "answer tokens, at most": lambda c: f"{c['output_tokens']:,}",
        "share of the GPU's memory": lambda c: (
            "vLLM's own" if c["memory_share"] is None else f"{c['memory_share']:.1%}"
        ),
    }
    title = "Served by vLLM on this machine, at no cost"
    table = _grid(title, [m["model"] for m in models], [m["vllm"] for m in models], rows)
    table.add_row("weights (MiB)", *(f"{m['terms']['weights'] / MIB:,.0f}" for m in models))
    return table


def _calls(models: Sequence[Mapping[str, Any]]) -> Table:
    """What is still to be asked of every hosted model, and what that costs at most."""
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "questions": lambda c: f"{c['num_prompts']:,}",
        "answers a question": lambda c: f"{c['repeats']:,}",
        "answers kept already": lambda c: f"{c['num_cached']:,}",
        "calls": lambda c: f"{c['num_calls']:,}",
        "prompt tokens, about": lambda c: f"{c['input_tokens']:,}",
        "answer tokens, at most": lambda c: f"{c['output_tokens']:,}",
        "cost, at most": lambda c: money_text(c["cost"]),
    }
    title = "Calls still to be made; answer tokens and cost are the most there can be"
    table = _grid(title, [m["model"] for m in models], [m["hosted"] for m in models], rows)
    notes = dict.fromkeys(m["hosted"][key] for m in models for key in ("cost_note", "rule"))
    table.caption, table.caption_justify = "\n".join(notes), "left"
    return table


def further_tables(further: Sequence["Further"]) -> list[Table]:
    """What [rag] and [[judge]] will ask; [] without them."""
    if not further:
        return []
    rows: dict[str, Callable[[Further], str]] = {
        "systems": lambda f: f"{f.num_systems:,}",
        "answers kept already": lambda f: f"{f.asking.num_cached:,}",
        "answers to be asked": lambda f: f"{f.asking.num_calls:,}",
        "prompt tokens": lambda f: f"{f.asking.input_tokens:,}",
        "answer tokens, at most": lambda f: f"{f.asking.output_tokens:,}",
        "longest prompt and answer": lambda f: _known(f.asking.longest_tokens, "{:,}"),
        "reading prompts, about": lambda f: "" if f.asking.seconds is None else _duration(f.asking.seconds),
        "memory for the longest (MiB)": lambda f: _mib(f.asking.memory_bytes),
        "cap (MiB)": lambda f: _mib(f.asking.cap_bytes),
        "cost, at most": lambda f: _cost_text(f.asking),
    }
    # A judge's name stands in its part already.
    names = [f.part if f.part.startswith("judge") else f"{f.part}: {f.model}" for f in further]
    table = _grid("Asked beyond the study's own questions, still to be done", names, further, rows)
    notes = dict.fromkeys(note for part in further for note in part.asking.notes)
    table.caption, table.caption_justify = "\n".join(notes), "left"
    return [table]


def _known(number: int | None, form: str) -> str:
    return "" if number is None else form.format(number)


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / MIB:,.0f}"


def _cost_text(asking: "AskingPlan") -> str:
    if asking.cost is not None:
        return money_text({"usd": asking.cost.usd, "yen": asking.cost.yen})
    return "none" if asking.is_here else "not known"


def money_text(cost: Mapping[str, float] | None) -> str:
    """`$0.0123 (1.8 yen)`."""
    return "not known" if cost is None else f"${cost['usd']:,.4f} ({cost['yen']:,.1f} yen)"


def _memory(models: Sequence[Mapping[str, Any]]) -> Table:
    """The memory plan of every local model, by cause, in MiB."""
    table = Table(title="Memory by cause (MiB), lengths in tokens", title_justify="left")
    table.add_column("", no_wrap=True)
    for model in models:
        table.add_column(model["model"], justify="right")
    for cause in models[0]["terms"]:
        table.add_row(cause.replace("_", " "), *(f"{m['terms'][cause] / MIB:,.0f}" for m in models))
    table.add_section()
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "held at once": lambda m: f"{m['total_bytes'] / MIB:,.0f}",
        "cap": lambda m: "none (CPU)" if m["cap_bytes"] is None else f"{m['cap_bytes'] / MIB:,.0f}",
        "tokens a micro-batch": lambda m: f"{m['most_tokens']:,}",
        "blocks keep": lambda m: m["kept"].removeprefix("blocks: ").replace(" keep ", ": "),
        "waits in the computer's memory": lambda m: "-" if m["cap_bytes"] is None else _mib(m["host_bytes"]),
        "runs at once": lambda m: f"{m['at_once']:,}",
        "longest that fits": lambda m: f"{m['limit_tokens']:,}",
        "longest allowed": lambda m: f"{m['max_length']:,}",
        "longest prompt allowed": lambda m: f"{m['max_input_tokens']:,}",
        "longest example": lambda m: f"{m['longest_tokens']:,}",
        "tokens an epoch": lambda m: f"{m['num_train_tokens']:,}",
        "training a run, about": lambda m: _duration(m["train_s_per_run"]),
        "left out": lambda m: _counts(m["left_out"]),
        "cut": lambda m: _counts(m["cut"]),
    }
    for name, value in rows.items():
        table.add_row(name, *(value(m) for m in models))
    return table


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _counts(by_split: Mapping[str, Any]) -> str:
    return ", ".join(f"{split} {len(ids)}" for split, ids in by_split.items() if ids) or "none"
