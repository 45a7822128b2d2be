"""What prompts share: exact, in order, and worth it."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tenbin.generate.prompt_tree import LEAST_SHARED, MOST_LEVELS, plant


def ids(length, seed):
    return tuple(random.Random(seed).choices(range(100), k=length))


def paths(nodes):
    """Prompt -> (its tokens by the tree, levels above it)."""
    found = {}
    for node in nodes:
        if node.prompt is not None:
            tokens, above, parent = node.ids, 0, node.parent
            while parent is not None:
                tokens, above, parent = nodes[parent].ids + tokens, above + 1, nodes[parent].parent
            found[node.prompt] = (tokens, above)
    return found


def test_questions_behind_passages_behind_one_instruction():
    header, passages = ids(40, 0), [ids(100, 1), ids(90, 2)]
    prompts = [header + passages[i % 2] + ids(5, 10 + i) for i in range(6)]
    nodes = plant(prompts, [True] * 6)
    shared = sorted(node.ids for node in nodes if node.prompt is None)
    assert shared == sorted([header, *passages])
    assert sum(len(node.ids) for node in nodes) == 40 + 190 + 6 * 5
    assert paths(nodes) == {i: (prompts[i], 2) for i in range(6)}
    # A passage is done with before the next one begins.
    order = [node.prompt % 2 for node in nodes if node.prompt is not None]
    assert order in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


def test_a_short_beginning_is_not_shared():
    short, enough = ids(LEAST_SHARED - 1, 0), ids(LEAST_SHARED, 0)
    assert all(n.prompt is not None for n in plant([(*short, 101, 1), (*short, 102, 2)], [True, True]))
    assert len(plant([(*enough, 101, 1), (*enough, 102, 2)], [True, True])) == 3


def test_equal_prompts_share_all_but_the_last_token():
    prompt = ids(50, 0)
    nodes = plant([prompt] * 3 + [prompt[:-1]], [True] * 4)
    assert sorted(len(node.ids) for node in nodes) == [1, 2, 2, 2, 48]


def test_what_may_not_share_stands_alone():
    prompt = ids(50, 0)
    nodes = plant([prompt] * 3, [True, False, True])
    assert [(len(n.ids), n.parent, n.prompt) for n in nodes] == [
        (49, None, None),
        (1, 0, 0),
        (1, 0, 2),
        (50, None, 1),
    ]


def test_a_chain_of_beginnings_is_at_most_three_deep():
    long = ids(400, 0)
    prompts = [(*long[:n], 200 + n) for n in range(40, 400, 40)]
    nodes = plant(prompts, [True] * len(prompts))
    assert {i: tokens for i, (tokens, _) in paths(nodes).items()} == dict(enumerate(prompts))
    assert max(above for _, above in paths(nodes).values()) == MOST_LEVELS


WORDS = st.lists(st.sampled_from([ids(33, 1), ids(40, 2), (1,), (2, 3)]), min_size=1, max_size=5)


@given(st.lists(st.tuples(WORDS, st.booleans()), max_size=12))
def test_every_prompt_is_its_path_and_parents_come_first(asked):
    prompts, may_share = [sum(words, ()) for words, _ in asked], [share for _, share in asked]
    nodes = plant(prompts, may_share)
    assert {i: tokens for i, (tokens, _) in paths(nodes).items()} == dict(enumerate(prompts))
    assert all(node.ids for node in nodes)
    for number, node in enumerate(nodes):
        assert node.parent is None or node.parent < number
        children = [i for i, other in enumerate(nodes) if other.parent == number]
        assert bool(children) == (node.prompt is None)
        if node.prompt is None:
            assert len(children) > 1
            assert len(node.ids) >= LEAST_SHARED
