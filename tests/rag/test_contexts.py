"""Texts of a given length with the needed passage at a given depth."""

import pytest
from tests.rag.questions import DEPTHS, EXAMPLES, PASSAGES, contexts

from tenbin.rag.contexts import SHORT, build_contexts
from tenbin.rag.passages import Passage
from tenbin.types import Example


def test_every_question_at_every_length_and_depth():
    made, impossible = contexts()
    assert impossible == []
    # alone, then two lengths, each at five depths and once without its answer
    assert len(made) == len(EXAMPLES) * (1 + 2 * (len(DEPTHS) + 1))


def test_a_text_has_the_length_that_was_asked_for():
    made, _ = contexts()
    for context in made:
        if context.length:
            assert SHORT * context.length <= len(context.text) <= context.length


def test_the_needed_passage_stands_whole_at_its_depth():
    made, _ = contexts(lengths=(1000,))
    for context in made:
        if context.condition == "present":
            before, _, after = context.text.partition(context.needed)
            assert context.needed
            share = len(before) / (len(before) + len(after))
            assert context.found_depth == pytest.approx(share, abs=0.03)
            assert context.found_depth == pytest.approx(context.depth, abs=0.1)
    depths = {c.example.id: [] for c in made}
    for context in made:
        if context.condition == "present":
            depths[context.example.id].append(context.found_depth)
    for found in depths.values():
        assert found == sorted(found)
        assert (found[0], found[-1]) == (0.0, 1.0)


def test_without_its_answer_no_reference_is_in_the_text():
    made, _ = contexts()
    for context in made:
        times = sum(context.text.count(reference) for reference in context.example.references)
        assert times == (0 if context.condition == "absent" else 1)


def test_a_passage_that_holds_the_answer_is_never_a_distractor():
    # the same answer in other widths; equal passages; part of the needed passage
    traps = (Passage("t1", "記念日は 十月　三日 だ。"), Passage("t2", EXAMPLES[0].inputs["passage"]))
    made, _ = build_contexts(
        EXAMPLES[:1], "passage", (*traps, *PASSAGES), lengths=(1000,), depths=(0.5,), absent=True
    )
    for context in made:
        assert not set(context.others) & {trap.text for trap in traps}


def test_distractors_like_the_question_come_first():
    near = Passage("near", "創立の記念品はいつも総務が選ぶ。創立記念の式典はない。")
    made, _ = build_contexts(
        EXAMPLES[:1], "passage", (*PASSAGES, near), lengths=(300,), depths=(0.0,), absent=False
    )
    assert all(near.text in context.others for context in made if context.condition == "present")
    drawn, _ = build_contexts(
        EXAMPLES[:1], "passage", (*PASSAGES, near), lengths=(300,), depths=(0.0,), absent=False, near=False
    )
    assert any(near.text not in context.others for context in drawn if context.condition == "present")


def test_the_same_texts_again_and_others_with_another_seed():
    assert contexts() == contexts()
    assert [c.text for c in contexts()[0]] != [c.text for c in contexts(seed=1)[0]]


def test_what_cannot_be_made_is_said_and_nothing_is_cut():
    long = Example(id="long", inputs={"passage": "長い。" * 200, "question": "何?"}, references=("長",))
    made, impossible = build_contexts(
        (long,), "passage", PASSAGES[:5], lengths=(300, 100_000), depths=(0.5,), absent=True
    )
    reasons = {(item.length, item.condition): item.reason for item in impossible}
    assert reasons[300, "present"] == "its own passage has 600 characters"
    assert "corpus has only" in reasons[100_000, "present"]
    assert "corpus has only" in reasons[100_000, "absent"]
    assert {(c.condition, c.length) for c in made} == {("alone", 0), ("absent", 300)}
    assert made[0].text == long.inputs["passage"]


def test_the_last_distractor_ends_with_a_sentence():
    made, _ = contexts(lengths=(333,))
    for context in made:
        assert all(other.endswith("。") for other in context.others)
