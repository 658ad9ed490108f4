"""The grammar: one program, three uses that must agree."""

import math
from collections import Counter

import pytest

import train
from train import BEGIN, END, IDS, VOCABULARY, Mistake, next_words, read, sample, spread

MANY, CORPUS = sample(60000, seed=7), spread(60000, seed=7)
SENTENCES = MANY[:3000]


def test_the_vocabulary_and_the_sentences_fit_the_model():
    assert len(VOCABULARY) == len(set(VOCABULARY)) <= 100
    assert max(len(s.words) for s in SENTENCES) - 1 <= 12
    assert all(s.words[0] == BEGIN and s.words[-1] == END for s in SENTENCES)
    assert {w for s in MANY for w in s.words} == set(VOCABULARY)


@pytest.mark.parametrize("say", [sample, spread])
def test_sampling_is_repeatable(say):
    assert say(50, seed=1) == say(50, seed=1) != say(50, seed=2)


def test_any_run_of_the_corpus_has_the_patterns_in_their_shares():
    def pairs(sentences):
        names = [[r.name for r in s.relations] for s in sentences]
        return sum("conjunction" in told for told in names)

    share = pairs(MANY) / len(MANY)

    def furthest(sentences):
        runs = (sentences[i : i + 128] for i in range(0, len(sentences) - 128, 61))
        return max(abs(pairs(run) - share * 128) for run in runs)

    assert furthest(spread(12800, seed=0)) <= 4
    assert furthest(sample(12800, seed=0)) >= 8  # random sentences come in streaks


def test_the_log_probability_is_the_product_of_the_exact_next_words():
    for s in SENTENCES[:150]:
        chain = 0.0
        for t in range(1, len(s.words)):
            chances = next_words(s.words[:t])
            assert sum(chances.values()) == pytest.approx(1)
            chain += math.log(chances[s.words[t]])
        assert chain == pytest.approx(s.log_prob)


@pytest.mark.parametrize(
    "prefix", ["", "the", "the hungry", "these", "the cat", "cats and", "the cat near"]
)
@pytest.mark.parametrize("said", [MANY, CORPUS], ids=["sample", "spread"])
def test_the_exact_distribution_agrees_with_brute_sampling(said, prefix):
    words = (BEGIN, *prefix.split())
    followers = Counter(
        s.words[len(words)] for s in said if s.words[: len(words)] == words
    )
    total = sum(followers.values())
    exact = next_words(words)
    assert total > 50 and set(followers) <= set(exact)
    for word, chance in exact.items():
        slack = 5 * math.sqrt(chance * (1 - chance) / total) + 1e-9
        assert followers[word] / total == pytest.approx(chance, abs=slack)


def test_more_than_a_million_sentences():
    # The mean of 1 / P(sentence) over samples estimates how many sentences there are.
    assert sum(math.exp(-s.log_prob) for s in MANY) / len(MANY) > 1e6


@pytest.mark.parametrize(
    "text",
    [
        "the cat chases the bird",
        "the quick brown fox chases the ball",
        "cats and dogs are friends",
        "the hungry fox eats the mouse",
        "this sheep sleeps",
        "two sheep sleep",
        "the cat and the dog are friends",
        "the cat or the dog is asleep",
        "the cat drinks the milk",
        "the hungry cat near the sleepy dog eats the fish",
        "these hungry foxes eat the mouse",
    ],
)
def test_sentences_of_the_design_are_in_the_language(text):
    assert train.in_language(read(text))


@pytest.mark.parametrize(
    "text",
    [
        "the cat chase the bird",
        "these hungry fox eats the mouse",
        "the cat near the dogs chase the bird",
        "the cat or the dog are friends",
        "the hungry fox sleeps",
        "the hungry cat near the sleepy dog sleeps",
        "the cat drinks the bone",
        "the hungry dog eats the fish",
        "two sheep sleeps",
        "the cat chases the",
        "cat the",
    ],
)
def test_what_breaks_a_relation_is_not_in_the_language(text):
    assert not train.in_language(read(text))


def test_every_sample_is_in_the_language_and_backwards_it_is_not():
    for s in SENTENCES[:100]:
        assert train.in_language(s.words[:-1])
        assert not train.in_language((BEGIN, *s.words[-2:0:-1]))


def test_a_relation_is_necessary_another_source_makes_the_word_impossible():
    seen = Counter()
    for s in SENTENCES:
        for r in s.relations:
            if r.source == r.row or seen[r.name] >= 40:
                continue
            seen[r.name] += 1
            right = s.words[r.row + 1]
            possible = next_words(s.words[: r.row + 1])
            assert right in possible
            assert r.wrong and not set(r.wrong) & set(possible), (s, r)
    assert set(seen) == set(train.RELATIONS) and min(seen.values()) >= 40


def test_the_labels_of_a_typed_sentence_are_those_of_the_sampled_one():
    for s in SENTENCES[:200]:
        typed = {r[:3] for r in train.relations_of(s.words[:-1])}
        assert typed == {r[:3] for r in s.relations}


def test_the_floor_is_the_mean_of_the_exact_log_probabilities():
    held_out = train.HeldOut(12, count=500)
    nats = -sum(s.log_prob for s in held_out.sentences)
    words = sum(len(s.words) - 1 for s in held_out.sentences)
    assert held_out.floor() == pytest.approx(nats / words)


def test_held_out_sentences_are_none_of_the_training_sentences():
    seen = {s.words for s in sample(20000, seed=0)}
    held_out = train.HeldOut(12, seen=seen)
    assert len(held_out.sentences) >= 2000
    assert not seen & {s.words for s in held_out.sentences}


def test_tensors_hold_each_word_and_the_one_after_it():
    ids, targets = train.tensors(SENTENCES[:20], 12)
    for s, row, next_row in zip(SENTENCES, ids.tolist(), targets.tolist()):
        n = len(s.words) - 1
        assert [VOCABULARY[i] for i in row[:n]] == list(s.words[:-1])
        assert [VOCABULARY[i] for i in next_row[:n]] == list(s.words[1:])
        assert all(i < 0 for i in next_row[n:])


@pytest.mark.parametrize(
    "text", ["The cat chases the bird.", "  the CAT, chases the bird !", "<s> the cat"]
)
def test_capitals_and_punctuation_are_understood(text):
    assert read(text)[:3] == [BEGIN, "the", "cat"]
    assert all(word in IDS for word in read(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("?!", "empty"),
        ("the cta", '"cta".*nearest are cat'),
        ("der Hund", '"der" is not among'),
        ("the cat 42", '"42"'),
        ("the 🦊", "🦊"),
        ("the \x07cat", "not among"),
        ("the " + "x" * 10**6, "x…"),
        ("the cat " * 8, "too many: this model reads 11 at most"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text, said):
    with pytest.raises(Mistake, match=said) as refused:
        read(text, 12)
    assert len(str(refused.value)) < 160 and "\n" not in str(refused.value)
