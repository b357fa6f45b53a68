"""Numbers, dates and facts: right answers by hand, splits that share nothing, batches that depend on the step alone."""

from datetime import date

import numpy as np
import pytest

from tinymm.data.dates import FORMS, date_pairs, ordinal
from tinymm.data.facts import fact_pairs, facts_of
from tinymm.data.number_words import compound, english, german, number_pairs
from tinymm.data.scenes import Scene, Shape
from tinymm.data.text_pairs import PairBatches, TextPair, TextPairs, choose, collect, encode_pairs, split_of
from tinymm.data.tokenizer import Tokenizer

PAIRS = {"numbers": number_pairs, "dates": date_pairs, "facts": fact_pairs}


def test_numbers_in_words_by_hand():
    right = {
        0: ("zero", "null"), 1: ("one", "eins"), 16: ("sixteen", "sechzehn"), 21: ("twenty-one", "einundzwanzig"),
        30: ("thirty", "dreißig"), 77: ("seventy-seven", "siebenundsiebzig"), 100: ("one hundred", "einhundert"),
        101: ("one hundred and one", "einhunderteins"), 1000: ("one thousand", "eintausend"),
        1001: ("one thousand and one", "eintausendeins"), 7012: ("seven thousand and twelve", "siebentausendzwölf"),
        21_100: ("twenty-one thousand one hundred", "einundzwanzigtausendeinhundert"),
        101_000: ("one hundred and one thousand", "einhunderteintausend"),
        312_047: ("three hundred and twelve thousand and forty-seven", "dreihundertzwölftausendsiebenundvierzig"),
        999_999: ("nine hundred and ninety-nine thousand nine hundred and ninety-nine",
                  "neunhundertneunundneunzigtausendneunhundertneunundneunzig"),
    }
    assert {number: (english(number), compound(german(number))) for number in right} == right
    assert german(21_101) == "ein und zwanzig tausend ein hundert eins"
    for number in (-1, 1_000_000):
        with pytest.raises(ValueError, match="from 0 to 999,999"):
            english(number)
        with pytest.raises(ValueError, match="from 0 to 999,999"):
            german(number)


def test_no_two_numbers_have_the_same_words():
    numbers = [*range(2000), *range(2000, 1_000_000, 997)]
    for words in (english, german):
        assert len({words(number) for number in numbers}) == len(numbers)


def test_dates_by_hand():
    day = date(2032, 12, 7)
    assert [write(day) for write in FORMS.values()] == [
        "7 December 2032", "December 7, 2032", "the 7th of December 2032", "Tuesday, December 7th, 2032", "Tue 7 Dec 2032",
        "7 Dec '32", "07-Dec-32", "7.12.2032", "12/7/32", "2032, December 7"]
    assert [FORMS[form](date(1987, 3, 3)) for form in FORMS] == [form.split(" (")[0] for form in FORMS]
    assert [ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "30th", "31st"]


def shape(kind, color, left, top, size=16):
    return Shape(kind, color, left, top, size, size, (0, 0, 0))


def test_facts_of_a_scene():
    scene = Scene((shape("circle", "red", 0, 0), shape("star", "blue", 40, 2, 21), shape("heart", "orange", 2, -40)), ())
    told = {"small red circle left of large blue star", "small orange heart above small red circle"}
    orders = [tuple(facts_of(scene, np.random.default_rng(seed)).split(" ; ")) for seed in range(8)]
    assert {frozenset(facts) for facts in orders} == {frozenset(told)} and len(set(orders)) == 2
    assert scene.caption == "a red circle left of a blue star and below an orange heart"
    row = Scene((shape("circle", "red", 0, 0), shape("star", "blue", 20, 2), shape("heart", "orange", 40, 0)), ())
    assert len(facts_of(row, np.random.default_rng(0)).split(" ; ")) == 3
    assert facts_of(Scene(row.shapes[:1], ()), np.random.default_rng(0)) == "small red circle"


@pytest.mark.parametrize("name", PAIRS)
def test_splits_are_disjoint_and_always_the_same(name):
    make = PAIRS[name]
    sets = {split: make(120, np.random.default_rng(0), split) for split in ("train", "validation", "test")}
    again = make(120, np.random.default_rng(0), "test")
    assert again == sets["test"] and make(120, np.random.default_rng(1), "test") != again
    for split, pairs in sets.items():
        assert len(pairs) == len(set(pairs.sources)) == len(pairs.targets) == len(pairs.kinds) == 120
        for other in sets.keys() - {split}:
            assert not set(pairs.targets) & set(sets[other].targets)
    with pytest.raises(ValueError, match="split must be one of"):
        make(120, np.random.default_rng(0), "dev")


def test_the_words_of_numbers_are_all_in_training():
    train = number_pairs(100, np.random.default_rng(0))
    assert train.sources[:3] == ("zero", "one", "two") and train.targets[99] == "neun und neunzig"
    with pytest.raises(ValueError, match="at least 100, got 99"):
        number_pairs(99, np.random.default_rng(0))


def test_the_shares_of_the_splits():
    found = [split_of(str(item)) for item in range(10_000)]
    assert [round(found.count(split) / 10_000, 1) for split in ("train", "validation", "test")] == [0.8, 0.1, 0.1]


def test_collect_gives_up_when_there_is_too_little():
    with pytest.raises(ValueError, match="only about 1 different pairs of the split 'train'"):
        collect(2, "train", lambda: ("0", TextPair("zero", "null", "")))
    assert split_of("0") == "train" and len(collect(0, "test", lambda: None)) == 0


def test_a_batch_reads_end_first_and_writes_end_last():
    pairs = TextPairs(("one two", "two"), ("eins", "zwei eins"), ("", ""))
    tokenizer = Tokenizer(["one", "two", "eins", "zwei"])        # 6, 7, 8, 9; <end> is 5
    table = encode_pairs(pairs, tokenizer)
    np.testing.assert_array_equal(table.source, [[6, 7], [7, 0]])
    np.testing.assert_array_equal(table.target, [[5, 8, 0], [5, 9, 8]])
    np.testing.assert_array_equal(table.labels, [[8, 5, -100], [9, 8, 5]])
    first = choose(table, [0], 0)
    assert first.source.shape == (1, 2) and first.target.tolist() == [[5, 8]] and first.labels.tolist() == [[8, 5]]
    assert pairs.spread(1).sources == ("one two",) and pairs.spread(5) is pairs


def test_batches_depend_on_seed_and_step_alone():
    pairs = number_pairs(110, np.random.default_rng(0))
    tokenizer = Tokenizer.build([*pairs.sources, *pairs.targets])
    batches = PairBatches(pairs, tokenizer, seed=3, size=20)
    later, first = batches.batch(7), batches.batch(0)      # epochs of 5 steps
    np.testing.assert_array_equal(PairBatches(pairs, tokenizer, seed=3, size=20).batch(7).source, later.source)
    assert PairBatches(pairs, tokenizer, seed=4, size=20).batch(0).source.tolist() != first.source.tolist()
    read = [tuple(row[row != 0]) for step in range(5) for row in batches.batch(step).source]
    assert len(read) == len(set(read)) == 100
    with pytest.raises(ValueError, match="from 1 to the 110 pairs, got 111"):
        PairBatches(pairs, tokenizer, seed=3, size=111)
