"""The language: rules that sample, tell what comes next, and label relations."""

import importlib.util
import math
import random
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

import train
from train import BEGIN, END, IDS, VOCABULARY, Mistake, next_words, read, sample

MANY = sample(100000, "test")
SENTENCES = MANY[:2000]


def test_a_hundred_words_and_sentences_that_fit_the_model():
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 100
    assert train.to_come(train.START)[2] == 12  # the full stop in the place of <s>
    assert max(len(s.words) for s in MANY) - 1 <= 12
    assert {w for s in MANY for w in s.words} == set(VOCABULARY)
    assert {w for words in train.KINDS.values() for w in words} == set(VOCABULARY)


def test_sampling_is_repeatable():
    assert sample(50, 1) == sample(50, 1) != sample(50, 2)
    assert train.spread(50, 1) == train.spread(50, 1) != train.spread(50, 2)


@pytest.mark.parametrize("seed", range(5))
def test_options_take_turns_in_a_corpus_to_learn_from(seed):
    first = Counter(words[1] for words in train.spread(1000, seed))
    for word, chance in next_words((BEGIN,)).items():
        assert first[word] == pytest.approx(1000 * chance, abs=4)


def unevenness(corpus):
    """How far what follows an adjective is from its chances, on average."""
    apart = []
    for adjective in train.ADJECTIVES:
        words = (BEGIN, "the", adjective)
        after = Counter(s[len(words)] for s in corpus if s[: len(words)] == words)
        total, chances = sum(after.values()), next_words(words)
        apart += [sum(abs(after[w] / total - c) for w, c in chances.items())]
    return statistics.mean(apart)


def test_the_walk_of_one_state_is_not_in_step_with_that_of_the_next():
    random_ones = unevenness([s.words for s in MANY[:30000]])
    for seed in range(2):
        assert unevenness(train.spread(30000, seed)) < 0.75 * random_ones


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "the",
        "the hungry",
        "these",
        "the cat",
        "hungry",
        "the sheep near",
        "the sheep and",
    ],
)
def test_the_exact_distribution_agrees_with_brute_sampling(prefix):
    words = (BEGIN, *prefix.split())
    followers = Counter(
        s.words[len(words)] for s in MANY if s.words[: len(words)] == words
    )
    total, exact = sum(followers.values()), next_words(words)
    assert total > 50 and set(followers) <= set(exact)
    for word, chance in exact.items():
        if chance * total < 1:  # too rare to be compared one by one
            continue
        slack = 5 * math.sqrt(chance * (1 - chance) / total) + 1e-9
        assert followers[word] / total == pytest.approx(chance, abs=slack)


def test_the_entropy_is_exact():
    entropy = train.entropy()
    surprise = [
        [-math.log(option.chance) for option in train.follow(s.words)[0]] for s in MANY
    ]
    words = sum(map(len, surprise))
    rest = [sum(some) - entropy * len(some) for some in surprise]
    error = statistics.stdev(rest) * math.sqrt(len(MANY)) / words
    assert sum(map(sum, surprise)) / words == pytest.approx(entropy, abs=4 * error)


def test_next_words_take_no_time():
    times = []
    for s in MANY[-500:]:
        start = time.perf_counter()
        next_words(s.words[:8])
        times.append(time.perf_counter() - start)
    assert statistics.median(times) < 2e-3  # tests/benchmark.py measures it


PLAIN = """the cat chases the bird
the dog chases the cat
the cat chases the mouse
the cat watches the moon
the horse near the cow sleeps
this cat near the dogs eats the fish
two hungry sheep near the dog eat the hay
every dog eats the bone
a monkey eats the banana
the cow eats the grass
the bear eats the honey
the thirsty horse drinks the water
the sleepy bear sleeps
the cat and the dog are friends
the fox and the rabbit are rivals
the cat or the dog is asleep
the dog is asleep
cats and dogs are friends
the dogs and the cats sleep
the quick brown fox chases the ball
the curious monkey watches the river
the lost fox seeks the den
the cold bear seeks the cave
these playful foxes chase the butterfly
this sheep sleeps
two sheep sleep
the horse and the cow eat the grass
a dog and a cat sleep
two dogs and this cat sleep
the hungry cat and the dog eat the fish
the cow near the barn eats the hay
the bear near the river is asleep
the cat near two dogs chases the bird
the cat behind the little dog watches the bird
the tired sheep and the tired cow sleep
the hungry fox near the den eats the mouse
the rabbit and a little deer are friends
the curious monkeys watch the butterfly
a dog chases a cat
the cat near the dogs chases a bird
the cat watches this sheep
the cat watches two sheep
the cat chases a mouse
the dog eats a bone
that monkey eats this banana
every fox seeks a den
the foxes watch two dogs
the dog chases these little cats
the brown dog chases the black cat
the cat watches many white sheep
two playful dogs and a cat chase that little ball
those greedy dogs near the horse eat the same bone
the thirsty cat behind the basket drinks this milk
that horse eats this nice grass
the cold bear beside that river seeks a cave
the sleepy monkey beside a tree is asleep
the dog near the little tree watches the cat
the tired sheep and the cow are asleep
the hungry dogs are late
the cat watches a little bird
the cat is hungry
the dogs near the barn are black
the two foxes chase the ball
the bear near the two dogs eats the fish
the cat drinks milk
cows eat grass
many sheep eat nice grass
the cat chases dogs
the foxes watch little rabbits
the dog chases the hungry cat
the nice dog near the same tree is late
the same horse drinks this water
the cat or the dogs are late
the cat near dogs sleeps
the cat watches this rain
the fox sleeps near the den
this gray cat sleeps beside that basket
the cat and the cow sleep near a barn
the dogs are behind two cats
every bear is beside the river
that little brown monkey is asleep
these nice white horses are late
these two cows are friends
those two tired foxes sleep
the two hungry dogs eat the same bone
the same hungry fox eats the mouse
the thirsty cow and the thirsty horse drink the same water
the cat chases the mouse behind the barn
the hungry dogs eat the same bone beside the kennel
cats eat fish near the river
those two foxes are asleep near the tree
the cold bear sleeps
the hungry fox chases the mouse
the sleepy cat watches the rain
the thirsty cow seeks the river
those greedy bears seek honey
the dog seeks the same bone
the deer eats near the river
two deer drink
the cat and dog are friends
a fox or bear sleeps
the brown horse is little and quick
the monkey is hungry or thirsty
the cat drinks cold milk
the playful brown dog drinks milk"""
WRONG = """the cat chase the bird
these hungry fox eats the mouse
the cat near the dogs chase the bird
the cat or the dog are friends
the hungry fox sleeps
the hungry cat near the sleepy dog sleeps
the hungry cat and the dog eats the fish
the cat near two dogs chase the bird
the cat drinks the bone
the dog eats the fish
two sheep sleeps
the cat chases the
cat the
the dogs chases the cat
the cat and the dog is asleep
this foxes sleep
the horse eats the banana
the dog is friends
cat sleeps
the cat near these dog sleeps
the cat and two dog sleep
the cat or two sheep is asleep
the cat and the barn sleep
the cat near two barn sleeps
the cat near the hungry barn sleeps
the cat and this barn sleep
the two fox sleeps
the cat watches a same bird
the cat watches a little rain
the hungry fox is friends
the cat chases these bird
the dogs chase a cats
the dog eats two bone
the cow eats a hay
the cat drinks a milk
the dog eats bone
the cats drink many milk
the dog chases the hungry ball
the cat watches these rain
same dog sleeps
the cat or the dogs are friends
the fox watches a rain
the rabbit eats the bone
the horse eats the moss
the cat near the moon sleeps
the cat chases this brown dogs
the brown little cat sleeps
the little nice cat sleeps
the brown hungry cat sleeps
this two cows are friends
these two cow are friends
two two cows are friends
these same cows are friends
the cow sleeps near these barn
the cow sleeps the barn
the cows near the barn
the cat chases near the river
the cat near dog sleeps
cats and dog sleep
two cats or dog sleeps
the horse is brown and friends
the hungry fox drinks
the sleepy cat eats the fish
the cat watches the mouse near the hungry barn
the cat is asleep near these barn
the cats are friends near near the barn"""


@pytest.mark.parametrize("text", PLAIN.splitlines())
def test_plain_sentences_are_in_the_language(text):
    assert train.in_language(read(text))
    assert not train.leaves(read(text))


@pytest.mark.parametrize("text", WRONG.splitlines())
def test_what_breaks_a_relation_is_not(text):
    assert not train.in_language(read(text))


# Forty that a teacher may make from the vocabulary.
FORTY = """the cat chases the mouse
the dog eats the bone
the hungry fox eats the mouse
the thirsty horse drinks the water
the sleepy bear sleeps
the lost rabbit seeks the burrow
the curious monkey watches the river
the playful cat chases the ball
these foxes watch the moon
two dogs chase the cat
this sheep sleeps
many sheep eat the grass
the cow and the horse are friends
the cat or the dog is late
cats and dogs are rivals
every dog seeks the kennel
a bear eats the honey
that monkey eats the banana
those rabbits eat the clover
the horse near the barn sleeps
the cat near the dogs drinks the milk
the little fox behind the cow watches the bird
the black cat sleeps
the white horses are asleep
the bears seek the cave
the deer drinks the water
the deer near the bear watches the road
two tired dogs sleep
a greedy monkey eats the same banana
the cat watches the same bird
the dogs beside the sheep are asleep
the careful deer watches the fox
the fox and the bear chase the rabbit
the cat and the dogs sleep
the cold cat seeks the basket
the quick brown fox chases the dog
the monkeys chase the butterfly
the cow drinks the water
the rabbit seeks the carrot
many hungry cows eat the hay"""


def test_these_forty_sentences_are_in_the_language():
    told = FORTY.splitlines()
    out = [text for text in told if not train.in_language(read(text))]
    assert len(told) == 40 and not out


def expected_source(name, words, row):
    """An independent statement of the relations: by word lists, not by rules.

    All is told by the first word of its kind.
    """
    head = name.split(" → ")[0]
    nouns = {w for a in train.ANIMALS for w in a.forms}
    verbs = {*train.PLURAL_VERB, *train.PLURAL_VERB.values()}
    lists = {
        "determiner": set(sum(train.DETERMINERS, ())),
        "subject": nouns,
        "conjunction": {"and", "or"},
        "adjective": set(train.ADJECTIVES),
        "verb": verbs,
    }
    return next(i for i in range(1, row + 1) if words[i] in lists[head])


def test_relations_are_those_of_an_independent_statement_and_necessary():
    seen, rng = Counter(), random.Random("swaps")
    for s in SENTENCES:
        for r in s.relations:
            assert r.source == expected_source(r.name, s.words, r.row) < r.row, (s, r)
            if seen[r.name] < 60:
                seen[r.name] += 1
                pair = train.minimal_pair(s.words[: r.row + 1], r.source, rng)
                own, other = next_words(pair.words), next_words(pair.swapped)
                assert set(own) - set(other) and set(other) - set(own)
                assert sum(a != b for a, b in zip(pair.words, pair.swapped)) == 1
    assert set(seen) == set(train.RELATIONS) and min(seen.values()) >= 60


def test_no_swap_leaves_fewer_words_that_may_follow_both():
    rng = random.Random("fewest")
    for s in SENTENCES[:300]:
        for r in s.relations:
            words = s.words[: r.row + 1]
            pair = train.minimal_pair(words, r.source, rng)
            told = train.options(train.follow(words[: r.source])[1])
            own, shared = set(next_words(words)), {}
            for word, option in told.items():
                after = set(
                    next_words(words[: r.source] + (word,) + words[r.source + 1 :])
                )
                if (
                    option.role == told[words[r.source]].role
                    and after - own
                    and own - after
                ):
                    shared[word] = len(own & after)
            assert shared[pair.swapped[r.source]] == min(shared.values())


@pytest.mark.parametrize("seed", range(9))
def test_of_equal_swaps_one_of_the_same_animal_is_taken(seed):
    words = tuple(read("the cat near the dogs"))
    pair = train.minimal_pair(words, words.index("cat"), random.Random(seed))
    assert " ".join(pair.swapped[1:]) == "the cats near the dogs"


def test_a_bare_object_is_settled_by_its_subject():
    for text in ("the hungry horse eats hay", "the deer eat moss"):
        told = train.relations_of(read(text))
        assert [r.name for r in told if r.row == len(read(text)) - 2] == [
            "subject → object"
        ]


def test_a_second_animal_is_described_where_the_first_has_one_such_word_at_most():
    for said in (
        "hungry cat near the little",
        "little brown cat near the",
        "cat near two",
    ):
        assert train.in_language(read(f"the {said} dogs eats the white fish"))
    for said in ("hungry brown cat near the little", "same nice cat near the two"):
        assert not train.in_language(read(f"the {said} dogs eats the fish"))


def test_the_animal_is_remembered_only_while_it_is_needed():
    def state(text):
        return train.follow(read(text))[1]

    assert state("the thirsty cat") == state("the thirsty dog")
    assert state("the hungry cat") != state("the hungry dog")


def test_an_adjective_does_not_settle_that_its_animal_is_something():
    told = train.relations_of(read("the hungry dog near the cow is late"))
    assert [relation.name for relation in told] == ["subject → verb"]


WRONG_RULES = {  # what full_stop yields, and what is said of it
    "no options": ([], "sum to 0, not 1"),
    "nothing": (None, "fails: "),
    "too little": ([(0.5, [END], None)], "sum to 0.5"),
    "too much": ([(0.75, [END], None), (0.35, ["the"], None)], "sum to 1.1"),
    "not a number": ([(math.nan, [END], None)], "sum to nan"),
    "less than none": (
        [(1.5, [END], None), (-0.5, ["the"], None)],
        '"the" with the chance -0.5',
    ),
    "a chance in words": ([("most", [END], None)], "fails: "),
    "an unknown word": ([(1, ["lion"], None)], '"lion", which is not in VOCABULARY'),
    "no state afterwards": ([(1, [END])], "fails: "),
    "a rule for a state": ([(1, ["the"], train.noun)], "then no State"),
    "nothing, then a rule": ([(1, None, train.noun)], "fails: "),
    "no full stop": ([(1, ["the"], None)], "then no State"),
    "on after a full stop": ([(1, [END], train.START)], "or one after"),
    "no words": ([(1, 5, None)], "fails: "),
    "no role": ([(1, [END], None, [])], "fails: "),
    "no relations": ([(1, [END], None, "", None)], "fails: "),
    "one part more": ([(1, [END], None, "", (), 0)], "fails: "),
    "no such role": ([(1, [END], None, "verb → object")], "RELATIONS has no such use"),
    "no such relation": ([(1, [END], None, "", ("adverb → verb",))], "no such use"),
    "two memories": (
        [(0.5, ["the"], train.START), (0.5, ["the"], train.BESIDE)],
        '"the" twice, with other memories',
    ),
}


@pytest.mark.parametrize(("rule", "said"), WRONG_RULES.values(), ids=WRONG_RULES)
@pytest.mark.parametrize(
    "use", [train.entropy, lambda: sample(100, 1), lambda: train.spread(100, 1)]
)
def test_a_wrong_rule_is_refused_by_whatever_meets_it(rule, said, use, edited):
    edited("full_stop", lambda s: rule)
    with pytest.raises(Mistake, match="the rule full_stop in train.py") as refused:
        use()
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_rule_may_not_hold_a_list(edited):
    edited("full_stop", lambda s: [(1, ["and"], train.START.then(s.rule, nouns=[]))])
    with pytest.raises(Mistake, match="the rule full_stop in train.py fails"):
        train.entropy()


@pytest.mark.parametrize(
    "use", [train.entropy, lambda: sample(20, 1), lambda: train.spread(20, 1)]
)
@pytest.mark.parametrize("words", [["and"], train.NOTHING])
def test_rules_that_never_end_are_refused(words, use, edited):
    edited("full_stop", lambda s: [(1.0, words, s)])
    with pytest.raises(Mistake, match="more than 100 words"):
        use()


def with_table(path, old, new):
    """The module train with an edited table of words."""
    source = Path(train.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1
    path.write_text(source.replace(old, new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("edited_train", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("chases eats seeks", "chase eats seeks", "looks for 'chase'"),
        ('"eats": "hungry', '"eat": "hungry', "looks for 'eat'"),
        ('watches is")', 'watches is likes")', "looks for 'likes'"),
        ('listed("near behind beside")', 'listed("")', "sum to 0.8"),
        ('"river", "road", *TOYS', '"river", "hill", *TOYS', '"hill", which is not in'),
        ('"conjunction"\n', '"conj"\n', "with 'conj': RELATIONS has no such use"),
    ],
)
def test_a_slip_in_a_table_is_refused_in_one_line(old, new, said, tmp_path):
    with pytest.raises(Mistake, match=said) as refused:
        with_table(tmp_path / "edited_train.py", old, new).entropy()
    assert "\n" not in str(refused.value) and "in train.py" in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('listed("milk water juice")', 'listed("Milk")', "the cat drinks the milk"),
        ("| mouse bird fish ", "| mouse rabbit rabbits ", "the fox eats two rabbits"),
        ("deer  ", "goat goats | hay | eats\ndeer  ", "two goats eat hay"),
        ("deer  ", "mouse mice | carrot | eats\ndeer  ", "cats eat this mouse"),
        ('"": "lost', '"chases": "wild", "": "lost', "wild cats chase dogs"),
        ('"lost quick', '"wild lost quick', "wild cats drink"),
    ],
)
def test_a_change_of_the_words_is_made_in_one_place(old, new, sentence, tmp_path):
    edited = with_table(tmp_path / "edited_train.py", old, new)
    words = edited.read(sentence)
    assert edited.in_language(words), edited.leaves(words)
    assert edited.entropy() != train.entropy()


def test_an_edited_rule_is_followed(edited):
    words = read("the cats are friends")
    assert next_words(words) == {END: 1}
    edited("full_stop", lambda s: [(0.5, [END], None), (0.5, ["and"], train.START)])
    assert next_words(words) == {END: 0.5, "and": 0.5}


def test_where_a_sentence_leaves_the_language():
    told = train.leaves(read("the hungry fox is friends"))
    assert told.startswith('after "the hungry fox is" comes: ')
    assert told.endswith(', …; not "friends"') and told.count(",") == 6
    assert train.leaves(read("the cats are friends the")) == (
        'after "the cats are friends" comes: (the end); not "the"'
    )
    assert "a sentence begins with" in train.leaves(read("eats"))


def test_unknown_words_get_neighbours_of_their_kind():
    with pytest.raises(Mistake, match="here could stand .*cat.*animals"):
        read("the lion sleeps")
    with pytest.raises(Mistake, match="perhaps quick"):
        read("the quikc fox")
    with pytest.raises(Mistake, match="perhaps bird"):
        read("the cat chases the brid")
    with pytest.raises(Mistake, match="could stand .*eats.*verbs"):
        read("the dog barks")  # not bears
    with pytest.raises(Mistake, match="could stand .*adjectives"):
        read(["<s>", "The", "cat", "is", "happy"])  # not hay


@pytest.mark.parametrize("text", WRONG.splitlines())
def test_the_place_that_is_told_is_where_it_leaves(text):
    words = read(text)
    told = train.leaves(words)
    if not told:  # a sentence that is only begun
        assert next_words(words) and END not in next_words(words)
        return
    at = next(t for t in range(1, len(words)) if words[t] not in next_words(words[:t]))
    assert told.endswith(f'not "{words[at]}"') and "\n" not in told
    assert f'after "{" ".join(words[1:at])}"' in told or at == 1


@pytest.mark.parametrize("words", ["the cat", ["the", "cat"], [], [BEGIN, "lion"]])
def test_words_that_are_none_are_refused(words):
    with pytest.raises(Mistake):
        next_words(words)


def test_tensors_hold_each_word_and_the_one_after_it():
    sentences = [s.words for s in SENTENCES[:20]]
    ids, targets = train.tensors(sentences)
    for words, row, after in zip(sentences, ids.tolist(), targets.tolist()):
        n = len(words) - 1
        assert [VOCABULARY[i] for i in row[:n]] == list(words[:-1])
        assert [VOCABULARY[i] for i in after[:n]] == list(words[1:])
        assert all(i < 0 for i in after[n:])


def test_capitals_and_punctuation_are_understood():
    assert read('  "The CAT, chases" the bird!?…') == [
        BEGIN, "the", "cat", "chases", "the", "bird",
    ]  # fmt: skip
    assert all(word in IDS for word in (BEGIN, END))
