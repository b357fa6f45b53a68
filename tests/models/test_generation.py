"""Greedy, sampled and beam generation on a toy language whose probabilities are written down."""

import numpy as np
import pytest

from tinymm.models.generation import beam_search, choose_tokens, generate

END = 0
#          end   a    b    c
TABLE = {(): [0.0, .6, .4, 0.0],
         (1,): [.34, 0.0, .33, .33], (2,): [.95, 0.0, 0.0, .05],    # 'a' is likelier than 'b', but 'b <end>' beats every text with 'a'
         (1, 2): [1.0, 0, 0, 0], (1, 3): [1.0, 0, 0, 0], (2, 3): [1.0, 0, 0, 0]}


def next_logits(sequences, rows):
    with np.errstate(divide="ignore"):
        return np.log(np.array([TABLE[tuple(sequence[1:])] for sequence in sequences]))


def test_greedy_takes_the_likeliest_token_each_time():
    assert generate(next_logits, [[9], [9]], end_id=END, max_new_tokens=5) == [[1], [1]]


def test_beam_search_finds_the_likelier_text():
    assert beam_search(next_logits, [[9], [9]], end_id=END, max_new_tokens=5, beams=2, length_penalty=0.0) == [[2], [2]]


def test_one_beam_is_greedy():
    assert beam_search(next_logits, [[9]], end_id=END, max_new_tokens=5, beams=1) == [[1]]


def test_rows_say_which_prompt_a_sequence_continues():
    def one_answer_per_prompt(sequences, rows):
        logits = np.full((len(sequences), 6), -10.0)
        for i, (sequence, row) in enumerate(zip(sequences, rows)):
            logits[i, END if len(sequence) > row + 1 else row + 2] = 10.0     # prompt `row` is answered by row + 1 times `row + 2`
        return logits

    expected = [[2], [3, 3], [4, 4, 4]]
    for search in (generate, beam_search):
        assert search(one_answer_per_prompt, [[9], [9], [9]], end_id=END, max_new_tokens=8) == expected


def test_generation_stops_at_the_limit():
    def never_ends(sequences, rows):
        return np.tile([-50.0, 1.0, 0.0], (len(sequences), 1))

    assert generate(never_ends, [[7]], end_id=END, max_new_tokens=3) == [[1, 1, 1]]
    assert beam_search(never_ends, [[7]], end_id=END, max_new_tokens=3, beams=2) == [[1, 1, 1]]


def test_sampling_follows_the_distribution():
    p = np.array([.5, .3, .15, .05])
    logits = np.tile(np.log(p), (20_000, 1))
    rng = np.random.default_rng(0)
    drawn = np.bincount(choose_tokens(logits, rng, temperature=1.0), minlength=4) / len(logits)
    np.testing.assert_allclose(drawn, p, atol=0.012)
    sharper = np.bincount(choose_tokens(logits, rng, temperature=0.5), minlength=4) / len(logits)
    np.testing.assert_allclose(sharper, p ** 2 / (p ** 2).sum(), atol=0.012)
    two = np.bincount(choose_tokens(logits, rng, temperature=1.0, top_k=2), minlength=4) / len(logits)
    np.testing.assert_allclose(two, [.625, .375, 0, 0], atol=0.012)
    nucleus = np.bincount(choose_tokens(logits, rng, temperature=1.0, top_p=0.81), minlength=4) / len(logits)
    np.testing.assert_allclose(nucleus, [*(p[:3] / p[:3].sum()), 0], atol=0.012)


@pytest.mark.parametrize("options, sentence", [
    ({"temperature": -1.0}, "temperature must be"), ({"temperature": 1.0}, "needs rng"),
    ({"temperature": 1.0, "rng": np.random.default_rng(0), "top_k": 0}, "top_k must be"),
    ({"temperature": 1.0, "rng": np.random.default_rng(0), "top_p": 0.0}, "top_p must be")])
def test_bad_options_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        choose_tokens(np.zeros((2, 3)), **options)
