"""The tables of `tenbin plan`: every kind of model in its own, and what is not known is said."""

import io
from dataclasses import replace

from rich.console import Console

from tenbin.bench_sizes import model_sizes
from tenbin.generate.hosted import Cost
from tenbin.memory import KeepLevels, plan_training
from tenbin.models.shape import ModelShape
from tenbin.planboard import further_tables, plan_tables
from tenbin.study.asking_plan import AskingPlan
from tenbin.study.further import Further
from tenbin.study.planning import Fitted, ModelPlan

SERVED = {
    "model": "big",
    "vllm": {
        "num_prompts": 16,
        "num_calls": 12,
        "num_cached": 4,
        "input_tokens": 2759,
        "output_tokens": 512,
        "memory_share": 0.25,
    },
    "terms": {"weights": 511 * 2**20},
}


def shown(tables):
    console = Console(file=io.StringIO(), width=160)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def test_a_served_model_is_in_no_table_of_local_ones():
    (table,) = plan_tables({"models": [SERVED]})
    text = shown([table])
    assert "Served by vLLM" in text
    assert "2,759" in text
    assert "25.0%" in text
    assert "511" in text


def test_without_a_cap_the_share_is_vllms_own():
    model = {**SERVED, "vllm": {**SERVED["vllm"], "memory_share": None}}
    assert "vLLM's own" in shown(plan_tables({"models": [model]}))


def test_a_local_model_says_what_its_blocks_keep_and_how_many_runs_train_at_once():
    kept = KeepLevels(
        num_layers=4, token_bytes=(0, 10, 20, 30, 40), room_bytes=1000, transient_bytes=0, wide_bytes=0
    )
    plan = plan_training(
        ModelShape.read(model_sizes("tiny")),
        rank=4,
        most_tokens=10,
        dtype_bytes=2,
        cap_bytes=None,
        decode_tokens=0,
        gpu=False,
    )
    model = ModelPlan(
        model="tiny",
        memory=replace(plan, levels=kept),
        limit_tokens=64,
        max_length=64,
        max_input_tokens=64,
        num_train_tokens=640,
        train=Fitted(examples=()),
        evaluation={},
        at_once=3,
    )
    lines = shown(plan_tables({"models": [model.to_json()]})).splitlines()
    (keeps,) = [line for line in lines if "blocks keep" in line]
    assert "2: all but the MLP's products, 2: input and attention" in keeps
    (at_once,) = [line for line in lines if "runs at once" in line]
    assert at_once.strip(" │").endswith("3")


def asked(**more):
    return AskingPlan(num_calls=10, input_tokens=1000, output_tokens=100, **more)


def test_money_is_none_here_not_known_without_a_price_and_a_sum_with_one():
    parts = (
        Further(part="rag", model="here", num_systems=2, asking=asked(memory_bytes=2**20)),
        Further(part="rag", model="unpriced", num_systems=1, asking=asked()),
        Further(part="judge rag", model="rag", num_systems=3, asking=asked(cost=Cost(1.5, 225.0))),
    )
    text = shown(further_tables(parts))
    for expected in ("rag: here", "rag: unpriced", "judge rag", "none", "not known", "$1.5000 (225.0 yen)"):
        assert expected in text


def test_what_is_done_is_taken_off_in_proportion_and_never_more():
    plan = asked(cost=Cost(2.0, 300.0), seconds=8.0)
    left = plan.but(5)
    assert (left.num_calls, left.num_cached, left.input_tokens, left.cost.usd, left.seconds) == (
        5,
        5,
        500,
        1.0,
        4.0,
    )
    assert plan.but(99).num_calls == 0
    assert plan.but(99).num_cached == 10
    assert plan.times(3).input_tokens == 3000
    assert asked().but(0) == asked()
