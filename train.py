"""Teach the GPT a small English, and look inside it afterwards.

    python train.py                      # train, say how good it is, write checkpoint.pt
    python train.py --n_head 2 --seed 1  # tweak any setting: see --help

In reading order: the language, rules that know the exact distribution of the next word;
from text to tensors; the training, against the loss that no model can beat; looking
inside: what each head looks at and carries; the checkpoint; talking to a person.
"""

import signal
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (a line is kinder than a traceback)
    sys.exit("Toy GPT needs Python 3.11 or newer.")
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends torch's import quietly

import argparse
import codecs
import difflib
import hashlib
import io
import math
import os
import random
from collections import defaultdict, namedtuple
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import count, product, zip_longest
from pathlib import Path
from pickle import UnpicklingError
from statistics import mode
from typing import NamedTuple

import torch

from model import GPT, PADDING, GPTConfig, Mistake, Settings, check, looking, setting

# ---------------------------------------------------------------- the language: words

BEGIN, END = "<s>", "."


def listed(text):
    """The words of a text, in lower case, without punctuation; a comma parts words too."""
    words = text.lower().replace(",", " ").split()
    return tuple(word.strip(".!?;:\"'“”‘’…") for word in words)


Animal = namedtuple("Animal", "forms eats habits")
# Singular and plural (of sheep and deer only the determiner tells), food (what can't be
# counted is in UNCOUNTED too), and what it does most where no adjective tells.
ANIMAL_TABLE = """
cat cats       | fish mouse               | chases drinks eats
fox foxes      | mouse bird fish          | eats chases watches
rabbit rabbits | carrot clover grass      | eats seeks sleeps
monkey monkeys | banana                   | watches chases sleeps
dog dogs       | bone                     | chases eats seeks
horse horses   | grass hay carrot         | drinks eats seeks
cow cows       | clover grass hay carrot  | eats sleeps drinks
bear bears     | honey fish               | sleeps eats seeks
sheep          | hay grass clover carrot  | eats sleeps seeks
deer           | moss grass clover carrot | drinks watches eats
"""
ANIMALS = [
    Animal(*map(listed, row.split("|"))) for row in ANIMAL_TABLE.split("\n")[1:-1]
]
ANIMAL = {form: animal for animal in ANIMALS for form in animal.forms}  # cats: the cat
# A verb's singular form stands for it in every table.
VERBS = listed("eats drinks sleeps seeks chases watches is")
PLURAL_VERB = dict(zip(VERBS, listed("eat drink sleep seek chase watch are")))
ACTIONS = tuple(verb for verb in VERBS if verb != "is")
ASKING = {  # the verb that some adjectives of the first animal ask for; others for none
    "eats": "hungry greedy",
    "drinks": "thirsty",
    "sleeps": "sleepy tired",
    "": "lost quick playful curious careful",
}
ADJECTIVES = {word: verb for verb, some in ASKING.items() for word in listed(some)}
UNASKED = tuple(verb for verb in ACTIONS if verb not in ASKING)
QUALITIES = listed("little nice cold")  # of anything
COLOURS = listed("brown black white gray")
PREPOSITIONS = listed("near behind beside")
ALONE, TOGETHER = listed("asleep late"), listed("friends rivals")
DRINKS = listed("milk water juice")
TOYS = listed("bird ball butterfly mouse")
SIGHTS = listed("moon river road rain bird butterfly mouse fish")
FOODS = dict.fromkeys(food for animal in ANIMALS for food in animal.eats)
HOMES = listed("basket den forest burrow tree kennel stable barn meadow cave")
LANDMARKS = (*HOMES, "river", "road", *TOYS, *ANIMAL)
OBJECTS = {
    "drinks": DRINKS,
    "seeks": (*HOMES, "river", *FOODS, *DRINKS),
    "chases": (*TOYS, *ANIMAL),
    "watches": (*SIGHTS, *ANIMAL),
}

ONE, SEVERAL, MASS = "one", "several", "uncounted"  # the number of a noun
UNCOUNTED = {*DRINKS, *listed("grass hay clover honey moss rain")}
THINGS = {*FOODS, *LANDMARKS, *sum(OBJECTS.values(), ())} - ANIMAL.keys()
NOUNS = {  # of each number; sheep, deer and fish have two
    ONE: {animal.forms[0] for animal in ANIMALS} | (THINGS - UNCOUNTED),
    SEVERAL: {animal.forms[-1] for animal in ANIMALS},
    MASS: UNCOUNTED | {"fish"},
}
POINTING, COUNTS = listed("these those"), listed("two many")
DETERMINERS = {  # and the numbers of the nouns that they stand before
    listed("this that"): (ONE, MASS),
    listed("every a"): (ONE,),
    POINTING: (SEVERAL,),
    COUNTS: (SEVERAL,),
    (): (SEVERAL, MASS),  # bare
}

KINDS = {  # the vocabulary by kind; a word may be of several
    "marks": (BEGIN, END),
    "little words": listed("the same and or"),
    "determiners": ("the", *sum(DETERMINERS, ())),
    "adjectives": tuple(ADJECTIVES),
    "qualities": QUALITIES,
    "colours": COLOURS,
    "animals": tuple(ANIMAL),
    "food and drink": (*FOODS, *DRINKS),
    "homes": HOMES,
    "prepositions": PREPOSITIONS,
    "verbs": (*PLURAL_VERB, *PLURAL_VERB.values()),
    "things to chase": TOYS,
    "things to watch": SIGHTS,
    "only after is and are": ALONE + TOGETHER,
}
VOCABULARY = list(dict.fromkeys(sum(KINDS.values(), ())))
IDS = {word: i for i, word in enumerate(VOCABULARY)}

# ---------------------------------------------------------------- the language: rules

# Before the arrow stands the role of the word that settles a later one, after it what is
# settled: the noun, the verb, the object. "adjective → noun" settles what the noun does.
SYNTACTIC = (
    "determiner → noun",
    "determiner → verb",
    "subject → verb",
    "conjunction → verb",
)
SEMANTIC = ("adjective → noun", "verb → object", "subject → object")
RELATIONS = SYNTACTIC + SEMANTIC
ROLES = {name.split()[0] for name in RELATIONS} | {""}  # "" is none


class State(NamedTuple):
    """All that a speaker must remember in the middle of a sentence. A GPT has no such
    memory: it must look back for each of these."""

    rule: Callable  # takes the state, and says what comes next
    place: str = ""  # "": the first noun; near, and, or: a second; last; is: after is
    nouns: tuple = tuple(ANIMAL)  # that may stand there
    numbers: tuple = (ONE, SEVERAL, MASS)  # of the next noun or verb, as far as told
    settled: tuple = ()  # the relations that settle the next noun, verb or object
    animal: Animal | None = None
    asked: str = ""  # the verb that the adjective asks for
    back: "State | None" = None  # where to go on after a noun that changes nothing
    room: int = 3  # for so many words before the noun

    def then(self, rule, **told):
        """The state afterwards: the next rule, and what has been told."""
        return self._replace(rule=rule, **told)

    def before_noun(self, rule, **told):
        """The same after a word before the noun, which is next if no room is left."""
        return self.then(rule if self.room > 1 else noun, room=self.room - 1, **told)


# The rules stand in the order of a sentence: the (hungry) fox (near a dog) eats the mouse.
# A rule yields lines: a chance, the words that share it evenly, the state after them, and
# perhaps their role for later words and the relations that settle them. Where nothing is
# said, what comes is what the state afterwards says.
NOTHING = None


def noun_phrase(s):
    """the …, this …, two …, or bare: (hungry) cats, (nice) grass"""
    the = 0.9 if s.place == "last" else 0.45
    yield the, ("the",), s.before_noun(after_the, numbers=tuple(NOUNS))
    possible = {n for n in NOUNS if NOUNS[n].intersection(s.nouns)}
    others = [words for words in DETERMINERS if possible & {*DETERMINERS[words]}]
    for words in others:
        numbers = tuple(n for n in DETERMINERS[words] if n in possible)
        if not words and s.place in ("and", "or") and ONE in s.numbers:
            numbers = (ONE, SEVERAL)  # the cat and dog, but not: cats and dog
        rule = after_the if words == POINTING and not s.place else description
        # After near and and, a later determiner tells the verb nothing.
        role = "determiner" if words and not s.place else ""
        after = s.before_noun(rule, numbers=numbers)
        yield (1 - the) / len(others), words or NOTHING, after, role


def after_the(s):
    """same fox, two foxes, or what comes after any determiner; after these: two foxes"""
    two = 0.01 if NOUNS[SEVERAL].intersection(s.nouns) else 0
    same = 0.02 - two if ONE in s.numbers else 0
    yield same, ("same",), s.before_noun(description)
    # No other word here would tell the number otherwise: nothing is settled.
    yield two, COUNTS, s.before_noun(description, numbers=(SEVERAL,), settled=())
    yield 1 - same - two, NOTHING, s.then(description)


def description(s):
    """(hungry) (little) (brown) fox; who is hungry is an animal"""
    animals = tuple(word for word in s.nouns if word in ANIMAL)
    possible = any(NOUNS[n].intersection(animals) for n in s.numbers)
    often, role = (0.005 * possible, "") if s.place else (0.75, "adjective")
    for word, verb in ADJECTIVES.items():
        told = {"nouns": animals} if s.place else {"asked": verb}
        yield often / len(ADJECTIVES), (word,), s.before_noun(quality, **told), role
    yield 1 - often, NOTHING, s.then(quality)


def quality(s):
    """(little) (brown) fox"""
    often = 0.005 if s.place else 0.03
    yield often, QUALITIES, s.before_noun(colour)
    yield 1 - often, NOTHING, s.then(colour)


def colour(s):
    """(brown) fox"""
    often = 0.005 if s.place else 0.03
    yield often, COLOURS, s.before_noun(noun)
    yield 1 - often, NOTHING, s.then(noun)


def noun(s):
    """fox; near it also a tree, and as an object whatever the verb asks for"""
    # A word of two numbers stands twice: "the sheep", as often as cat and cats together.
    said = [word for word in s.nouns for n in s.numbers if word in NOUNS[n]]
    animals = [word for word in said if word in ANIMAL]
    things = [word for word in said if word not in ANIMAL]
    often = (0.7 if s.place == "last" else 0.1) if animals and things else bool(things)
    # An object that only an animal can be tells nothing: all are chased, all watched.
    settled = s.settled if things or not s.place else ()
    role = "" if s.place else "subject"
    for nouns, chance in (things, often), (animals, 1 - often):
        for word in nouns:
            after = s.back or after_subject(s, word)
            yield chance / len(nouns), (word,), after, role, settled


def after_subject(s, word):
    """What is remembered of a subject: how many do it, what has told so, and who."""
    numbers = tuple(n for n in s.numbers if word in NOUNS[n])
    if s.place:  # with "and" the two are several, with "or" the nearer is asked
        settled = ("conjunction → verb",) if numbers == (ONE,) else ()
        both = (SEVERAL,) if s.place == "and" else numbers
        return s.then(verb, numbers=both, settled=settled, room=3)
    settled = ()
    if len(s.numbers) > len(numbers) == 1:  # the word tells how many
        settled = ("subject → verb",)
    elif s.settled and len(ANIMAL[word].forms) == 1:  # with sheep the determiner does
        settled = ("determiner → verb",)
    # Only what one eats depends on who one is, and who is thirsty or sleepy won't eat.
    known = ANIMAL[word] if s.asked in ("", "eats") else None
    return s.then(link, numbers=numbers, settled=settled, animal=known)


def link(s):
    """near the …, and the …, or the verb at once"""
    # Eleven words fit: where two describe the first noun, none describes the second.
    room = min(2, s.room + 1)
    back = s.then(verb, place="near", room=3)
    yield 0.2, PREPOSITIONS, State(noun_phrase, "near", LANDMARKS, back=back, room=room)
    second = s.then(noun_phrase, nouns=tuple(ANIMAL), settled=(), room=room)
    for word in ("and", "or"):
        yield 0.1, (word,), second._replace(place=word), "conjunction"
    yield 0.6, NOTHING, s.then(verb)


def verb(s):
    """What the adjective asks for, or none does; else mostly the first animal's habits."""
    if s.asked:
        shares = {(s.asked,): 0.8, UNASKED: 0.12, ("is",): 0.08}
    else:
        shares = {s.animal.habits: 0.6, ACTIONS: 0.22, ("is",): 0.18}
    for verbs, chance in shares.items():
        for said, number in product(verbs, s.numbers):
            form = said if number == ONE else PLURAL_VERB[said]
            settled = s.settled + (("adjective → noun",) if said == s.asked else ())
            one = chance / len(verbs) / len(s.numbers)
            yield one, (form,), after_verb(s, said, number), "verb", settled


def after_verb(s, said, number):
    """What is remembered: no more than what comes will ask for."""
    if said == "sleeps":
        return State(where)
    if said == "is":
        return State(complement, s.place, numbers=(number,))
    nouns = s.animal.eats if said == "eats" else OBJECTS[said]
    settled = ("verb → object",)
    settled += ("subject → object",) if said == "eats" else ()
    back = State(full_stop if s.place else where)  # a third noun is the last
    rule = meal if said in ("eats", "drinks") else noun_phrase
    return State(rule, "last", nouns, settled=settled, back=back, room=2)


def meal(s):
    """the grass, or no object"""
    yield 0.02, NOTHING, s.back
    yield 0.98, NOTHING, s.then(noun_phrase)


def complement(s):
    """asleep, hungry, near the …, of several also friends"""
    together = 0.48 if s.numbers == (SEVERAL,) and s.place != "or" else 0
    alone = (*ALONE, *ADJECTIVES, *QUALITIES, *COLOURS)
    yield 0.96 - together, alone, State(full_stop if s.place else where, "is")
    yield together, TOGETHER, State(full_stop)
    yield 0.04, PREPOSITIONS, BESIDE


def where(s):
    """near the …, or the end; after brown also: and white"""
    often = 0.02 if s.place == "is" else 0
    yield often, ("and", "or"), State(complement, "and")  # of no number: not friends
    yield 0.04, PREPOSITIONS, BESIDE
    yield 0.96 - often, (END,), None


def full_stop(s):
    yield 1, (END,), None


START = State(noun_phrase, settled=("determiner → noun",))
# What comes after "near", where it ends the sentence.
BESIDE = State(noun_phrase, "last", LANDMARKS, back=State(full_stop), room=1)

# ----------------------------------------------------- the language: what follows from it

ENDLESS = "the rules in train.py say sentences of more than 100 words"


class Option(NamedTuple):
    """What it is to say a word in a state."""

    chance: float
    state: State | None  # what is remembered afterwards; None at the end
    role: str = ""  # what the word is for later words
    settled: tuple = ()  # the relations that settle it


@cache
def options(state):
    """What may be said in a state (at the end, None, nothing): a dict from word to Option,
    likeliest first. Raises Mistake, a line that names the rule, where that is wrong."""
    if state is None:
        return {}
    rule = f"the rule {getattr(state.rule, '__name__', state.rule)} in train.py"
    try:
        return merged(state)
    except Mistake:  # of a later state
        raise
    except RecursionError:
        raise Mistake(ENDLESS) from None
    except KeyError as missing:
        raise Mistake(f"{rule} looks for {missing}, which a table lacks") from missing
    except Exception as error:  # a slip of whoever edited it
        raise Mistake(f"{rule} fails: {error}") from error


def merged(state):
    """What the rule of a state says, each word once. Raises whatever is wrong with it."""
    chances = defaultdict(float)  # of each word with its Option, whose own chance is 0
    for chance, words, after, *use in state.rule(state):
        if not chance:
            continue
        if words is NOTHING:
            for word, option in options(after).items():
                chances[word, option._replace(chance=0)] += chance * option.chance
        else:
            for word in words:
                chances[word, Option(0, after, *use)] += chance / len(words)
    total, found = sum(chances.values()), {}
    if not abs(total - 1) < 1e-9:
        raise ValueError(f"its chances sum to {total:.3g}, not 1")
    for (word, option), chance in sorted(chances.items(), key=lambda item: -item[1]):
        said = f'it says "{word}"'
        if word not in IDS:
            raise ValueError(f"{said}, which is not in VOCABULARY: no KINDS has it")
        if word in found:
            raise ValueError(f"{said} twice, with other memories")
        if not chance > 0:
            raise ValueError(f"{said} with the chance {chance}")
        if wrong := {option.role} - ROLES | {*option.settled} - {*RELATIONS}:
            raise ValueError(f"{said} with {min(wrong)!r}: RELATIONS has no such use")
        if not isinstance(option.state, type(None) if word == END else State):
            raise TypeError(f'{said} and then no State, or one after "{END}"')
        found[word] = option._replace(chance=chance)
    return found


def follow(words):
    """The Options that say `words`, from <s>, as far as they are in the language: a
    list; and the state after them, None where no sentence goes on."""
    taken, state = [], START
    for word in words[1:]:
        if word not in options(state):
            return taken, None
        taken.append(options(state)[word])
        state = taken[-1].state
    return taken, state


def next_words(words):
    """The exact distribution of the word after `words`, from <s>: a dict, likeliest
    first; empty where no sentence begins that way, or where it has ended."""
    _, state = follow(from_begin(words))
    return {word: option.chance for word, option in options(state).items()}


def in_language(words):
    """Whether the words, from <s> and without the full stop, are a sentence."""
    return END in next_words(words)


class Relation(NamedTuple):
    """In row `row`, the word at `source` settles which word comes next."""

    name: str
    row: int
    source: int


def relations_of(words):
    """The relations in `words`, from <s>: a tuple of Relation, in the order of rows. Not
    those of a word that settles the very next one, or of a role that no word has taken:
    there is no looking back."""
    places, found = {}, []
    taken, _ = follow(from_begin(words))
    for row, option in enumerate(taken):  # the option says word row + 1
        some = [Relation(n, row, places.get(n.split()[0], row)) for n in option.settled]
        found += [relation for relation in some if relation.source < row]
        places[option.role] = row + 1
    return tuple(found)


class Sentence(NamedTuple):
    """A sentence of the language, from <s> to the full stop."""

    words: tuple

    @property
    def relations(self):
        return relations_of(self.words)


def say(point):
    """The words of a sentence. In each state `point(state)`, from 0 to 1, picks an option:
    they lie on this line side by side, likeliest first, each as long as its chance."""
    words, state = [BEGIN], START
    while choices := options(state):
        at = point(state)
        for word, option in choices.items():
            at -= option.chance
            if at < 0:
                break
        words.append(word)
        state = option.state
        if len(words) > 100:
            raise Mistake(ENDLESS)
    return tuple(words)


def sample(count, seed):
    """`count` random sentences of the language, the same for the same seed."""
    rng = random.Random(seed)
    return [Sentence(say(lambda state: rng.random())) for _ in range(count)]


def spread(n, seed):
    """The words of `n` sentences to learn from: in each state its options take turns, as
    often as they are likely (Holroyd & Propp 2010, "Rotor Walks and Markov Chains"). A
    state's point moves on by the golden ratio, around the end: always into one of the
    widest gaps left (Knuth, "The Art of Computer Programming" 3, section 6.4)."""
    rng, golden_ratio = random.Random(seed), (5**0.5 - 1) / 2
    points = defaultdict(lambda: count(rng.random(), golden_ratio))
    return [say(lambda state: next(points[state]) % 1) for _ in range(n)]


@cache
def to_come(state):
    """From a state to the end: the mean surprise, in nats, the mean number of words, and
    the most, each with the full stop. Raises Mistake where sentences need not end."""
    surprise, length, most = 0.0, 0.0, 0
    try:
        for option in options(state).values():
            rest = to_come(option.state)
            surprise += option.chance * (rest[0] - math.log(option.chance))
            length += option.chance * (rest[1] + 1)
            most = max(most, rest[2] + 1)
    except RecursionError:
        raise Mistake(ENDLESS) from None
    return surprise, length, most


def entropy():
    """The loss that no model can beat, in nats a word, exactly: the mean surprise of a
    sentence by its mean length. Raises Mistake where sentences need not end."""
    surprise, length, _ = to_come(START)
    return surprise / length


# -------------------------------------------------------------- from text to tensors


def read(text, block_size=None):
    """The words of one typed sentence, after <s>: "The fox eats." is understood.

    text: a string, or a list or tuple of words, with or without <s>. Raises Mistake
    where a word is unknown, none is left, or more than a model of `block_size` reads.
    """
    if isinstance(text, str):
        text = listed(text)
    if not isinstance(text, (list, tuple)) or not all(isinstance(w, str) for w in text):
        raise Mistake(f"a sentence is a text or a list of words, not {text!r:.60}")
    words = [BEGIN, *(word.lower() for word in text if word and word != BEGIN)]
    if len(words) == 1:
        raise Mistake('the sentence is empty: try "the hungry fox eats the mouse"')
    if block_size and len(words) > block_size:
        most = f"this model reads {block_size - 1} at most"
        raise Mistake(f"{len(words) - 1} words are too many: {most}")
    return list(from_begin(words))


def from_begin(words):
    """The words as a tuple. Raises Mistake unless they are known and begin with <s>."""
    if not isinstance(words, (list, tuple)) or not words or words[0] != BEGIN:
        raise Mistake(f"words must be a list that begins with {BEGIN}: use read(text)")
    if not IDS.keys() >= {*words}:
        raise Mistake(unknown(words))
    return tuple(words)


def unknown(words):
    """A line about the first word that is none, and what could stand in its place."""
    place = next(i for i, word in enumerate(words) if word not in IDS)
    wrong = one_line(str(words[place]), 30)
    why = f'"{wrong}" is not among the {len(VOCABULARY)} words of the language'
    before, after = words[:place], {*words[place + 1 : place + 2]} & IDS.keys()
    could = next_words(before)  # likeliest first
    fits = [w for w in could if w != END and after <= next_words([*before, w]).keys()]
    # A word that can't stand here must be more alike: barks is no misspelt bears.
    for known, least in (fits, 0.7), (VOCABULARY[2:], 0.86):
        if near := difflib.get_close_matches(wrong, known, 3, least):
            return f"{why}: perhaps {' or '.join(near)}"
    if not fits:
        return f"{why}: python example.py --words shows them"
    kinds = defaultdict(list)
    for word in fits:
        kinds[next(kind for kind in KINDS if word in KINDS[kind])].append(word)
    hints = [f"{', '.join(some[:4])} ({kind})" for kind, some in kinds.items()]
    return f"{why}: here could stand {'; '.join(hints[:2])}"


def leaves(words):
    """Where `words`, from <s>, leave the language: a line, or "" where they don't."""
    taken, _ = follow(from_begin(words))
    said, rest = words[: len(taken) + 1], words[len(taken) + 1 :]
    if not rest:
        return ""
    near = difflib.get_close_matches(rest[0], next_words(said), 1)  # sleeps, for sleep
    could = sorted(next_words(said), key=lambda word: word not in near)
    shown = ", ".join(could[:6] + ["…"] * (len(could) > 6)).replace(END, "(the end)")
    where = f'after "{" ".join(said[1:])}" comes' if taken else "a sentence begins with"
    return f'{where}: {shown}; not "{rest[0]}"'


def as_ids(*sentences):
    """Lists of words of the language as ids (N, T) int64, filled up with full stops.
    Raises KeyError where a word is unknown."""
    columns = zip_longest(*sentences, fillvalue=END)
    return torch.tensor([[IDS[word] for word in column] for column in columns]).T


def tensors(sentences):
    """Whole sentences, lists of words, as ids (N, T) and targets (N, T): each word, and
    the one after it. After a full stop nothing is asked (target PADDING)."""
    rows = as_ids(*sentences)  # (N, T + 1)
    ids, targets = rows[:, :-1], rows[:, 1:]
    return ids, targets.masked_fill(ids == IDS[END], PADDING)


# ------------------------------------------------------------------------- training


def default_config():
    """GPTConfig(), with a larger vocab_size where an edited language has more words."""
    return GPTConfig(vocab_size=max(GPTConfig.vocab_size, len(VOCABULARY)))


@dataclass(frozen=True)
class TrainConfig(Settings):
    """How to train. Every field is a flag of `python train.py`."""

    steps: int = setting(440, "training steps")
    batch_size: int = setting(144, "sentences in a step")
    learning_rate: float = setting(0.075, "the MLP's peak: see optimizers", 1e-6, 100)
    weight_decay: float = setting(0.6, "of queries and keys: see optimizers", 0, 100)
    eval_every: int = setting(150, "steps between two looks at the loss")
    seed: int = setting(0, "the same seed gives the same weights, bit for bit", 0)

    def corpus(self):
        """The words of the sentences to learn from, each of them met once."""
        return spread(self.steps * self.batch_size, f"corpus {self.seed}")


class HeldOut:
    """The sentences that heads are judged on: of `count` random ones, the same each time,
    those not in `seen`, the corpus of a training. unseen: which these are, if known.
    language: a fingerprint; another language has other words, or draws others."""

    def __init__(self, seen=(), unseen=None, count=10000):
        sentences = sample(count, "held out")
        self.unseen = unseen or [s.words not in seen for s in sentences]
        self.sentences = [s for s, new in zip(sentences, self.unseen) if new]
        drawn = repr((VOCABULARY, [s.words for s in self.sentences])).encode()
        self.language = hashlib.sha256(drawn).hexdigest()


def loss_and_floor(model, count=5000):
    """The loss on the first `count` that HeldOut draws, without dropout, and the floor:
    what the language's own chances give there, which no model beats but by luck. Both in
    nats a word. Those that were in training too are not left out."""
    sentences = sample(count, "held out")
    ids, targets = tensors([s.words for s in sentences])
    with looking(model):
        loss = model(ids, targets)[1].item()
    chances = [option.chance for s in sentences for option in follow(s.words)[0]]
    return loss, -sum(map(math.log, chances)) / len(chances)


class Moment(NamedTuple):
    """What training looks like at an evaluation."""

    step: int
    loss: float  # on random sentences, in nats a word
    floor: float  # of the same sentences

    @property
    def against_floor(self):
        """How far above the floor, in words; far below, the model sees the next word."""
        above = 100 * (self.loss / self.floor - 1)
        if above < -0.1:
            why = "it sees the future, by causal_mask or attention"
            return f"{-above:.2f}% BELOW the floor: {why}"
        return f"{max(0, above):.2f}% above the floor"


@torch.random.fork_rng(devices=[])
def untrained(config, seed=0):
    """A new GPT for the language, in eval mode: what training with this seed starts
    from, and the baseline of every claim. The caller's random state stays as it is."""
    torch.manual_seed(seed)
    model = GPT(config).eval()
    model.names[: len(VOCABULARY)] = VOCABULARY
    return model


def optimizers(model, settings):
    """Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
    networks") for the matrices inside the blocks, AdamW for the rest; each with its
    schedule, a cosine down to 0, capped by 10 steps of warm-up. The factors were found by
    trial (README: What was tuned)."""
    rate, decay = settings.learning_rate, settings.weight_decay
    asking, giving = (2 * rate, decay), (rate, decay / 4)
    recipe = {"query": asking, "key": asking, "value": giving, "project": giving}
    matrices, others = [], []
    for name, p in model.named_parameters():  # such as blocks.0.attention.query.weight
        if name.startswith("blocks.") and p.dim() == 2:
            peak, fading = recipe.get(name.split(".")[-2], (rate, 0))  # else the MLP
            matrices.append({"params": p, "lr": peak, "weight_decay": fading})
        else:
            # The last normalisation makes the model more or less sure.
            peak = (8 if name.startswith("norm.") else 0.8) * rate
            others.append({"params": p, "lr": peak})
    muon = torch.optim.Muon(matrices, momentum=0.9)
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)

    def factor(step):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
        return min((step + 1) / 10, cosine)

    return [(o, torch.optim.lr_scheduler.LambdaLR(o, factor)) for o in (muon, adam)]


@contextmanager
def one_thread():
    """Within it PyTorch adds up in one order, so that a seed gives the same weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
@torch.random.fork_rng(devices=[])  # the caller's random state stays
@torch.inference_mode(False)  # gradients, wherever this is called
def train(config, settings, watch=lambda model, moment: None):
    """Train a new GPT; returns it in eval mode, and sentences that it has not seen.

    `watch(model, moment)` is called before the first step, every `eval_every` steps, and
    at the end. Raises Mistake where the language does not fit into the model, and where
    the loss is no longer a number."""
    check("vocab_size", config.vocab_size, int, len(VOCABULARY), 10**6)
    check("block_size", config.block_size, int, to_come(START)[2], 10**6)
    model = untrained(config, settings.seed)
    watch(model, evaluate(model, 0))  # at once: a large corpus takes a while
    corpus = settings.corpus()
    batches = zip(*(part.split(settings.batch_size) for part in tensors(corpus)))
    both = optimizers(model, settings)
    torch.manual_seed(settings.seed)  # of the dropout
    for step, (ids, targets) in enumerate(batches, 1):  # both (batch_size, T)
        model.train()
        _, loss = model(ids, targets)
        loss.backward()
        for optimizer, schedule in both:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if step % settings.eval_every == 0 or step == settings.steps:
            watch(model.eval(), evaluate(model, step))
    return model.eval(), HeldOut(seen=set(corpus))


def evaluate(model, step):
    """A Moment. Raises Mistake where the loss is no longer a number."""
    moment = Moment(step, *loss_and_floor(model, 1000))
    if not math.isfinite(moment.loss):
        rate = TrainConfig.learning_rate
        why = f"a learning_rate ({rate} works) or weight_decay too high, or model.py edited"
        if not step:
            why = "in model.py causal_mask lets a row see nothing, or the formula is wrong"
        raise Mistake(f"at step {step} the loss is no longer a number: {why}")
    return moment


# --------------------------------------------------------- looking inside: the heads


class Inspection(NamedTuple):
    """One sentence, and where each head looks in it."""

    words: list  # T strings, the first is <s>
    weights: torch.Tensor  # (n_layer, n_head, T, T), rows sum to 1


def inspect_attention(model, sentence):
    """An Inspection of a sentence, typed as text or given as its words. Raises Mistake
    where a word is unknown, or the sentence too long for the model."""
    words = read(sentence, model.config.block_size)
    return Inspection(words, torch.cat(model.attention_maps(as_ids(words))))


def heads_of(config):
    """Each head as (layer, head), from 0; its place in this list is its flat number."""
    return list(product(range(config.n_layer), range(config.n_head)))


def head_names(config):
    """L1H1, L1H2, …: the name of each head, in the order of their flat numbers."""
    return [f"L{layer + 1}H{head + 1}" for layer, head in heads_of(config)]


class Pair(NamedTuple):
    """A sentence up to the row that decides, and the same with one word swapped."""

    words: tuple  # from <s> to the row
    swapped: tuple  # as long
    source: int  # the place where they differ


def minimal_pair(words, source, rng):
    """The Pair of `words`, a tuple from <s>, with another word of its role at `source`
    that changes what may follow; None where there is none. Of several such words it is
    one with the fewest words that may follow both, if possible of the same animal (cats,
    for cat), picked by `rng`."""
    said = options(follow(words[:source])[1])
    others = sorted(w for w in said if said[w].role == said[words[source]].role)
    rng.shuffle(others)
    own, found = next_words(words).keys(), {}
    for other in others:
        swapped = (*words[:source], other, *words[source + 1 :])
        its = next_words(swapped).keys()
        if own - its and its - own:
            stranger = ANIMAL.get(other) != ANIMAL.get(words[source])
            found[swapped] = len(own & its), stranger
    return Pair(words, min(found, key=found.get), source) if found else None


def pairs_of(held_out, most=300):
    """Minimal pairs of held-out sentences: {relation: [Pair, ...]}, `most` of each, no
    two alike or mirrored up to the row that decides (this beginning may occur in
    training). Relations of fewer than two pairs, which can't be halved, are left out."""
    rng, pairs = random.Random("pairs"), {name: {} for name in RELATIONS}
    for sentence in held_out.sentences:
        for name, row, source in sentence.relations:
            words, found = sentence.words[: row + 1], pairs[name]
            if len(found) < most and words not in found:
                pair = minimal_pair(words, source, rng)
                if pair and pair.swapped not in found:  # else it is there, mirrored
                    found[words] = pair
    return {name: list(some.values()) for name, some in pairs.items() if len(some) > 1}


def apart(words, swapped):
    """The sides of the decision between two sentences: the words that may follow only the
    one, and only the other; a side without such words is all that may follow there."""
    own, other = next_words(words), next_words(swapped)
    only = [w for w in own if w not in other], [w for w in other if w not in own]
    return only[0] or list(own), only[1] or list(other)


def patch_each_head(model, pairs, given=None):
    """Activation patching on n minimal pairs (Wang et al. 2022; Zhang & Nanda 2023:
    symmetric pairs, logit difference): each head in turn gives its output on the swapped
    sentence, or that of `given`, for each layer (n or 1, n_head, T or 1, head_size), such
    as `mean_outputs`; all others stay.

    The decision is log p(one side of `apart`) - log p(the other), in nats. Returns it on
    the sentence (n,), on the swapped one (n,), and with each head patched (heads, n).
    """
    words, swapped, _ = zip(*pairs)
    ids, others = as_ids(*words), as_ids(*swapped)  # (n, T)
    last = range(len(words)), [len(w) - 1 for w in words]  # the rows that decide
    with looking(model):
        given = given or model.head_outputs(others)
        runs = [model.logits(ids)[last], model.logits(others)[last]]
        for layer, head in heads_of(model.config):
            with model.patch_heads({(layer, head): given[layer][:, head]}):
                runs.append(model.logits(ids)[last])  # (n, vocab_size)
    sides = torch.full((2, *runs[0].shape), -math.inf)
    for i, both in enumerate(zip(words, swapped)):
        for side, may_follow in zip(sides, apart(*both)):
            side[i, [IDS[word] for word in may_follow]] = 0  # added to the logits
    own, other = (torch.stack(runs) + sides[:, None]).logsumexp(-1)  # (2 + heads, n)
    decision = own - other
    return decision[0], decision[1], decision[2:]


def shares_of(clean, other, patched):
    """How far each head moves the decision, as a share of the whole way: a ratio of the
    means of what `patch_each_head` returns; nan where there is no way."""
    way, moved = (clean - other).mean(), (clean - patched).mean(-1)  # (heads,)
    return [math.nan] * len(moved) if abs(way) < 1e-4 else (moved / way).tolist()


def mean_outputs(model, held_out):
    """What each head gives on average over the words of 1,000 held-out sentences: for
    each layer a tensor (1, n_head, 1, head_size)."""
    ids = as_ids(*(s.words[:-1] for s in held_out.sentences[:1000]))  # (N, T)
    spoken = ids != IDS[END]  # (N, T), False where it is filled up
    outputs = model.head_outputs(ids)  # for each layer (N, n_head, T, head_size)
    return [o.transpose(1, 2)[spoken].mean(0)[None, :, None] for o in outputs]


def looks_of(model, pairs):
    """How often each head's largest weight in the last row is on the source: (heads,)."""
    words, _, source = zip(*pairs)
    maps = torch.cat(model.attention_maps(as_ids(*words)), dim=1)  # (n, heads, T, T)
    rows = maps[range(len(words)), :, [len(w) - 1 for w in words]]  # (n, heads, T)
    return (rows.argmax(-1).T == torch.tensor(source)).float().mean(1)


class Role(NamedTuple):
    """What the heads (not words, as in Option.role) do for one relation; all of it on the
    half of its pairs that was not used to choose."""

    name: str
    count: int  # pairs scored
    head: int  # the main carrier, flat from 0, chosen on the other half
    looks: list  # of each head: how often its largest weight is on the source
    carries: list  # of each head: its share of the decision; nan where there is none
    flips: list  # of each head: how often the model then decides the other way
    removal: list  # of each head: the share of the decision lost without it
    right: float  # how often the model decides both sentences rightly
    offset_looks: float  # a baseline: always the same number of words back
    untrained_looks: float  # a baseline: the best head of an untrained model

    @property
    def known(self):
        """Whether the model decides most pairs rightly."""
        return self.right >= 0.5 and math.isfinite(self.carries[self.head])

    @property
    def shared(self):
        """Whether not even the main carrier has half."""
        return not (self.known and self.carries[self.head] >= 0.5)


def measure(model, held_out):
    """The role of the heads in every relation: a list of Role, syntactic ones first.
    Raises Mistake where a changed language has no relation that looks back."""
    pairs = pairs_of(held_out)
    if not pairs:
        raise Mistake("no relation of this language looks back: nothing to measure")
    blank, means = untrained(model.config), mean_outputs(model, held_out)
    return [role_of(name, found, model, blank, means) for name, found in pairs.items()]


def role_of(name, pairs, model, blank, means):
    """One relation's Role. blank: the untrained model. means: of `mean_outputs`."""
    chosen, scored = pairs[::2], pairs[1::2]
    shares = shares_of(*patch_each_head(model, chosen))
    best = looks_of(blank, chosen).argmax()
    back = [len(words) - source for words, _, source in pairs]
    clean, other, patched = patch_each_head(model, scored)
    *_, removed = patch_each_head(model, scored, means)
    return Role(
        name=name,
        count=len(scored),
        head=shares.index(max(shares)),
        looks=looks_of(model, scored).tolist(),
        carries=shares_of(clean, other, patched),
        flips=((clean > 0) & (patched < 0)).float().mean(1).tolist(),
        removal=shares_of(clean, 0, removed),
        right=((clean > 0) & (other < 0)).float().mean().item(),
        offset_looks=back[1::2].count(mode(back[::2])) / len(scored),
        untrained_looks=looks_of(blank, scored)[best].item(),
    )


# --------------------------------------------------------- looking inside: the words


def expect(model, words):
    """The model's distribution of the next word after `words`, from <s>: a dict, likeliest
    first. Ids that no word has (a larger vocab_size) are left out; the rest sums to 1.
    Raises Mistake where the words are not known, don't begin with <s>, or are too many."""
    with looking(model):
        logits = model.logits(as_ids(from_begin(words)))[0, -1, : len(VOCABULARY)]
    chances = zip(VOCABULARY, logits.softmax(-1).tolist())
    return dict(sorted(chances, key=lambda said: -said[1]))


def generate_many(model, count, prompt="", temperature=1.0, seed=None):
    """`count` sentences at once, each a list of words from <s>, without the full stop.

    prompt: how each of them begins, a text or a list of words. temperature: 0 takes the
    likeliest word each time (greedy), 1 samples the model's own distribution. seed: makes
    it repeatable. Raises Mistake where the prompt or a number makes no sense.
    """
    generator = torch.Generator()
    seed = generator.seed() if seed is None else seed
    check("count", count, int, 1, 10**6)
    check("temperature", temperature, float, 0, 1e6)
    check("seed", seed, int, 0, 2**64 - 1)
    generator.manual_seed(seed)
    size = model.config.block_size
    words = [BEGIN] if prompt in ("", [BEGIN], (BEGIN,)) else read(prompt, size)
    ids = as_ids(words).repeat(count, 1)  # (count, T)
    with looking(model):
        while ids.size(1) < size and not (ids == IDS[END]).any(1).all():
            logits = model.logits(ids)[:, -1, : len(VOCABULARY)]  # (count, words)
            chances = (logits / max(temperature, 1e-20)).softmax(-1)  # not 0 / 0
            word = torch.multinomial(chances, 1, generator=generator)
            ids = torch.cat([ids, word], dim=1)
    rows = [[VOCABULARY[i] for i in row] for row in ids.tolist()]
    return [row[: row.index(END)] if END in row else row for row in rows]


def generate(model, prompt="", temperature=1.0, seed=None):
    """A sentence, as text; the arguments are those of `generate_many`."""
    words = generate_many(model, 1, prompt, temperature, seed)[0]
    return " ".join(words[1:]) + END


def share_in_language(model, count=1000, temperature=1.0, seed=0):
    """The share of sampled sentences that are in the language, by the exact test."""
    sentences = generate_many(model, count, temperature=temperature, seed=seed)
    return sum(in_language(words) for words in sentences) / count


# ------------------------------------------------------------------- the checkpoint

CHECKPOINT = "checkpoint.pt"
RETRAIN = '"python train.py" makes a new one, --out gives it its name'


def write(path, data=None):
    """Write bytes, all of them or none; without data only try. Raises Mistake."""
    file, draft = Path(path), Path(f"{path}.{os.getpid()}.tmp")
    try:
        if file.exists() and not file.is_file():
            raise OSError(0, "it is a folder or a device")
        draft.write_bytes(data or b"")
        if data is not None:
            draft.replace(file)  # the old file is whole until then
    except OSError as error:
        raise Mistake(f'can\'t write "{path}": {error.strerror}') from None
    finally:
        with suppress(OSError):  # it has its new name already
            draft.unlink()


def save_checkpoint(path, model, held_out):
    """Write the model, and what it takes to trust it later, a checksum at the end:
    `torch.load` opens the file too. Raises Mistake."""
    model = getattr(model, "_orig_mod", model)  # as it was before torch.compile
    content = {
        "config": asdict(replace(model.config, debug=False)),  # of that training only
        "language": held_out.language,
        "loss": loss_and_floor(model, 50)[0],  # another formula or mask changes it
        "unseen": held_out.unseen,
        "state": model.state_dict(),
    }
    file = io.BytesIO()
    torch.save(content, file)
    data = file.getvalue()
    write(path, data + hashlib.sha256(data).digest())


def load_checkpoint(path):
    """The model in eval mode, and the sentences it has not seen. Raises Mistake, with
    one line about what is wrong and what to do, unless the file is whole and fits."""
    try:
        whole = Path(path).read_bytes()
    except OSError as error:
        raise Mistake(f"can't read {path}: {error.strerror}; {RETRAIN}") from None
    data, checksum = whole[:-32], whole[-32:]
    strange = Mistake(f"{path} is damaged, or not a checkpoint of Toy GPT; {RETRAIN}")
    if hashlib.sha256(data).digest() != checksum:
        raise strange
    try:
        content = torch.load(io.BytesIO(data), weights_only=True)
    except UnpicklingError:  # code in the file is not run
        raise strange from None
    held_out = HeldOut(unseen=content.get("unseen"))
    if content.get("language") != held_out.language:
        raise Mistake(f"{path} was trained with another language; {RETRAIN}")
    with suppress(KeyError, TypeError, ValueError, RuntimeError):
        model = untrained(GPTConfig(**content["config"]))
        model.load_state_dict(content["state"])
        if math.isclose(loss_and_floor(model, 50)[0], content["loss"], rel_tol=1e-4):
            return model, held_out
    raise Mistake(f"{path} was trained with another model.py; {RETRAIN}")


def load(path=CHECKPOINT):
    """The trained model and its held-out sentences. Where there is no checkpoint.pt yet,
    the default model is trained and kept; a file of another name must be there. Raises
    Mistake."""
    if str(path) != CHECKPOINT or os.path.lexists(path):
        return load_checkpoint(path)
    say_aside(f"No {path} yet: training. The floor is the loss that no model can beat.")
    trained = train(default_config(), TrainConfig(), progress)
    try:
        save_checkpoint(path, *trained)
    except Mistake as mistake:
        say_aside(f"The model is not kept: {mistake}")
    return trained


def load_model(path=CHECKPOINT):
    """The trained model, in eval mode; as with `load` it may be trained first. Raises
    Mistake where the file is broken, or of another language or model.py."""
    return load(path)[0]


# ---------------------------------------------------------------- talking to a person


def say_aside(line):
    """To the person, not into the output."""
    print(line, file=sys.stderr, flush=True)


def progress(model, moment):
    """Tell how training goes, a line at a time."""
    line = f"step {moment.step:>5}   loss {moment.loss:.3f}, floor {moment.floor:.3f}"
    say_aside(f"{line}: {moment.against_floor}")


def plain(error):
    """What a terminal without Unicode shows instead: an arrow becomes "->"."""
    instead = dict(zip("▸·–×ᵀ░▒▓█", ">--xT.:+#"))
    instead |= {"→": "->", "…": "...", "√": "sqrt ", "±": "+-"}
    shown = (instead.get(c, "?") for c in error.object[error.start : error.end])
    return "".join(shown), error.end


def one_line(message, most=170):
    """A message without line breaks and control characters, and not endless."""
    line = "".join(c if c.isprintable() else "?" for c in str(message))
    return line if len(line) <= most else f"{line[: most // 2]}…{line[-most // 2 :]}"


@contextmanager
def polite():
    """Run a script's main part, so that a Mistake, a full disk, too little memory end in
    one line and status 2, Ctrl-C in one and 130, a closed pipe quietly. In one thread, so
    that all that is told can be repeated bit for bit."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # no longer, see the imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    codecs.register_error("plain", plain)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the script
            setattr(sys, name, io.StringIO())
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="plain", line_buffering=True)
    script = os.path.basename(sys.argv[0])
    try:
        yield
    except KeyboardInterrupt:
        say_aside(f"\n{script}: stopped; no file is half written.")
        sys.exit(130)
    except (Mistake, OSError, RuntimeError) as error:
        if isinstance(error, OSError):  # what is left in the buffer goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        elif isinstance(error, RuntimeError):
            if "allocate" not in str(error):
                raise
            error = "the model is too large for this machine's memory"
        if not isinstance(error, BrokenPipeError):
            say_aside(f"{script}: {one_line(error)}")
            sys.exit(2)


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses in one line."""

    def __init__(self, text):
        style = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(description=text, allow_abbrev=False, formatter_class=style)

    def error(self, message):
        raise Mistake(f"{message} (--help shows what there is)")


def main():
    """`python train.py`: train, save, and say how good the model is."""
    parser = Parser("Teach the GPT a small English.")
    for f in (*fields(GPTConfig), *fields(TrainConfig)):
        kind = {"action": "store_true"} if f.type is bool else {"type": f.type}
        parser.add_argument(f"--{f.name}", help=f.metadata["help"], **kind)
    parser.set_defaults(**asdict(default_config()), **asdict(TrainConfig()))
    text = f"the file: {CHECKPOINT}, for another shape a name such as n_head-2.pt"
    parser.add_argument("--out", default=argparse.SUPPRESS, help=text)
    flags = vars(parser.parse_args())
    config = GPTConfig(**{f.name: flags.pop(f.name) for f in fields(GPTConfig)})
    out = flags.pop("out", own_name(config))
    settings = TrainConfig(**flags)
    write(out)  # what can't be written is told before the training
    model, held_out = train(config, settings, progress)
    save_checkpoint(out, model, held_out)
    moment = Moment(settings.steps, *loss_and_floor(model))
    shares = [share_in_language(model, temperature=t) for t in (1.0, 0.7)]
    print(f"""
{sum(p.numel() for p in model.parameters()):,} parameters, seed {settings.seed}, written to {out}
Loss on random sentences: {moment.loss:.4f} nats a word (the mean of -log p(next word)).
The floor is {moment.floor:.4f}, the loss of who knows the language's true chances: to beat it
takes luck, or seeing the next word. This model is {moment.against_floor}.
In the language: {shares[0]:.1%} of 1,000 sentences sampled at temperature 1, {shares[1]:.1%} at 0.7.
Now look inside: python example.py{"" if out == CHECKPOINT else f" --checkpoint {out}"}""")


def own_name(config):
    """checkpoint.pt for the default shape, for another such as n_head-2.pt."""
    default = asdict(replace(default_config(), debug=config.debug))
    changed = [f"{n}-{v}" for n, v in asdict(config).items() if v != default[n]]
    return "-".join(changed) + ".pt" if changed else CHECKPOINT


if __name__ == "__main__":
    with polite():
        main()
