"""Teach the GPT a small English, and look inside it afterwards.

    python train.py                      # train, say how good it is, write checkpoint.pt
    python train.py --n_head 2 --seed 1  # tweak any setting: see --help

Four parts, in reading order. The language: a grammar that samples sentences, labels
their word relations, and knows the exact distribution of the next word. The training,
against the loss that no model can beat. The checkpoint. And looking inside: maps,
generated sentences, and what each head is worth.
"""

import argparse
import codecs
import difflib
import gc
import hashlib
import inspect
import io
import math
import os
import random
import re
import sys
import tempfile
import time
import zlib
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch.nn import functional as F

from model import GPT, PADDING, GPTConfig

# ---------------------------------------------------------------- the language: words

BEGIN, END = "<s>", "."


class Animal(NamedTuple):
    """A noun that can be a subject, and what is peculiar to the animal."""

    singular: str
    plural: str
    food: str
    home: str
    habits: tuple  # what it does when no adjective says otherwise


# A verb's singular form stands for the verb in every table.
PLURAL_VERB = {
    "eats": "eat",
    "drinks": "drink",
    "sleeps": "sleep",
    "seeks": "seek",
    "chases": "chase",
    "watches": "watch",
    "is": "are",
}
ANIMALS = (
    Animal("cat", "cats", "fish", "basket", ("chases", "drinks", "eats")),
    Animal("fox", "foxes", "mouse", "den", ("eats", "chases", "watches")),
    Animal("rabbit", "rabbits", "carrot", "burrow", ("eats", "seeks", "sleeps")),
    Animal("monkey", "monkeys", "banana", "tree", ("watches", "chases", "sleeps")),
    Animal("dog", "dogs", "bone", "kennel", ("chases", "eats", "seeks")),
    Animal("horse", "horses", "grass", "stable", ("drinks", "eats", "seeks")),
    Animal("cow", "cows", "clover", "barn", ("eats", "sleeps", "drinks")),
    Animal("bear", "bears", "honey", "cave", ("sleeps", "eats", "seeks")),
)
# An animal is seen with one from the other half only: no "the cat and the cat".
HALVES = (ANIMALS[:4], ANIMALS[4:])
# Nouns that look the same in both numbers: only the determiner tells.
UNMARKED = (
    Animal("sheep", "sheep", "hay", "meadow", ("eats", "sleeps", "seeks")),
    Animal("deer", "deer", "moss", "forest", ("drinks", "watches", "eats")),
)
# An adjective settles what its animal does: the hungry fox eats.
ADJECTIVES = {
    "hungry": "eats",
    "greedy": "eats",
    "thirsty": "drinks",
    "sleepy": "sleeps",
    "tired": "sleeps",
    "lost": "seeks",
    "cold": "seeks",
    "quick": "chases",
    "playful": "chases",
    "curious": "watches",
    "careful": "watches",
}
OBJECTS = {  # of the verbs that leave the animal a choice
    "drinks": ("milk", "water", "juice"),
    "chases": ("bird", "ball", "butterfly"),
    "watches": ("moon", "river", "road", "rain"),
}
DETERMINERS = (("this", "that", "every", "a"), ("these", "those", "two", "many"))
COLOURS = ("brown", "black", "white", "gray", "little")
PREPOSITIONS = ("near", "behind", "beside")
LATER = ("same", "nice")  # between the last "the" and the object
ALONE, TOGETHER = ("asleep", "late"), ("friends", "rivals")
FUNCTION_WORDS = ("the", "and", "or")
SHARED_VERBS = ("drinks", "sleeps", "chases", "watches")  # two animals can share these


def all_words(*tables):
    """Each word of the tables once, in order."""
    words = {}
    for table in tables:
        if isinstance(table, str):
            words[table] = None
        else:
            pairs = table.items() if isinstance(table, dict) else table
            words.update(dict.fromkeys(all_words(*pairs)))
    return list(words)


# fmt: off
VOCABULARY = all_words(
    BEGIN, END, FUNCTION_WORDS, DETERMINERS, ADJECTIVES, COLOURS, ANIMALS, UNMARKED,
    PREPOSITIONS, PLURAL_VERB, OBJECTS, LATER, ALONE, TOGETHER,
)
# fmt: on
IDS = {word: i for i, word in enumerate(VOCABULARY)}

# -------------------------------------------------------------- the language: grammar

# Every relation of the language, by the name it has here, as a person reads it.
SYNTACTIC = {
    "determiner": "determiner → noun",
    "subject": "subject → verb",
    "conjunction": "conjunction → verb",
}
SEMANTIC = {
    "adjective": "adjective → noun",
    "verb": "verb → object",
    "object": "subject → object",
}
RELATIONS = SYNTACTIC | SEMANTIC


class Relation(NamedTuple):
    """In row `row`, the word at `source` settles which word comes next.

    `wrong` are the words that would be right, were the word at `source` another one.
    Where source and row are the same, the word settles it itself: no looking back.
    """

    name: str
    row: int
    source: int
    wrong: tuple


class Speaker:
    """Says one sentence, word by word; subclasses make its choices."""

    def __init__(self):
        self.words = [BEGIN]
        self.relations = []
        self.chance = 1.0  # of all choices so far

    def choose(self, options, weights=None):
        """One of the options: every decision of the grammar is made here."""
        raise NotImplementedError

    def say(self, word):
        """Add a word, and return its place in the sentence."""
        self.words.append(word)
        return len(self.words) - 1

    def relate(self, name, source, wrong):
        """The word at `source` settles the word that is said next."""
        self.relations.append(Relation(name, len(self.words) - 1, source, tuple(wrong)))


def form(verb, number):
    """The verb for one (number 0) or for several (number 1)."""
    return PLURAL_VERB[verb] if number else verb


@cache
def other_verbs(verb, number):
    """What other adjectives would have the animal do."""
    return tuple(
        form(v, number) for v in dict.fromkeys(ADJECTIVES.values()) if v != verb
    )


@cache
def other_objects(verb, animal):
    """What would follow another verb; `animal` is None where two share the verb."""
    verbs = ("eats", "seeks", *OBJECTS) if animal else OBJECTS
    return tuple(o for v in verbs if v != verb for o in objects(v, animal))


@cache
def objects_of_others(verb, animal):
    """What would follow the verb, were the subject another animal."""
    own = objects(verb, animal)
    others = [o for a in ANIMALS + UNMARKED for o in objects(verb, a)]
    return tuple(o for o in others if o not in own)


def sentence(speaker):
    """The grammar: one sentence, by one of three patterns."""
    pattern = speaker.choose((clause, pair, plural_pair), (0.75, 0.16, 0.09))
    pattern(speaker)
    speaker.say(END)


def clause(speaker):
    """the (hungry) (brown) fox (near the dogs) eats the mouse"""
    choose, say, relate = speaker.choose, speaker.say, speaker.relate
    unmarked = choose((False, True), (0.7, 0.3))
    # Number has one cue only: the determiner, or with "the" the noun.
    by_determiner = choose((True, False), (0.7, 0.3) if unmarked else (0.4, 0.6))
    number = choose((0, 1))
    determiner = say(choose(DETERMINERS[number]) if by_determiner else "the")
    adjective = verb = None
    if choose((True, False), (0.6, 0.4)):
        word = choose(tuple(ADJECTIVES))
        adjective, verb = say(word), ADJECTIVES[word]
    coloured = choose((True, False), (0.3, 0.7))
    if coloured:
        say(choose(COLOURS))
    animal = choose(UNMARKED if unmarked else ANIMALS)
    noun, other_noun = animal[number], animal[1 - number]
    if by_determiner and not unmarked and (adjective or coloured):
        relate("determiner", determiner, (other_noun,))
    subject = say(noun)

    one_cue = unmarked or not by_determiner
    far = one_cue and choose((True, False), (0.7, 0.3))
    if far:
        say(choose(PREPOSITIONS))
        say("the")
        if adjective and choose((True, False)):
            say(choose(tuple(ADJECTIVES)))
        other = choose(company(animal))
        say(choose(other[:2]))

    verb = verb or choose(animal.habits)
    other_form = form(verb, 1 - number)
    if unmarked and by_determiner:
        relate("determiner", determiner, (other_form,))
    if not unmarked:
        relate("subject", subject, (other_form,))
    if adjective:
        relate("adjective", adjective, other_verbs(verb, number))
    predicate(speaker, verb, say(form(verb, number)), animal, subject)


def company(animal):
    """Whom the animal is seen with."""
    if animal in HALVES[0]:
        return HALVES[1]
    return HALVES[0]


def objects(verb, animal=None):
    """What may follow the verb's "the"."""
    if verb == "eats":
        return (animal.food,)
    if verb == "seeks":
        return (animal.home,)
    return OBJECTS.get(verb, ())


def predicate(speaker, verb, at, animal=None, subject=None):
    """eats the (same) mouse; `at` is the verb's place, `subject` the animal's."""
    if verb == "sleeps":
        return
    speaker.say("the")
    if len(speaker.words) < 11 and speaker.choose((True, False), (0.35, 0.65)):
        speaker.say(speaker.choose(LATER))
    speaker.relate("verb", at, other_objects(verb, animal))
    if verb not in OBJECTS:
        speaker.relate("object", subject, objects_of_others(verb, animal))
    speaker.say(speaker.choose(objects(verb, animal)))


def pair(speaker):
    """the cat and the dog are friends, the cat or the dog is asleep"""
    first = speaker.choose(ANIMALS)
    conjunction = two_animals(speaker, first, 0)
    number = int(speaker.words[conjunction] == "and")
    verb = speaker.choose(("is", *SHARED_VERBS))
    speaker.relate("conjunction", conjunction, (form(verb, 1 - number),))
    at = speaker.say(form(verb, number))
    if verb == "is":
        speaker.say(speaker.choose(TOGETHER if number else ALONE))
    else:
        predicate(speaker, verb, at)


def plural_pair(speaker):
    """cats and dogs are friends, cats or dogs chase the ball"""
    first = speaker.choose(ANIMALS)
    conjunction = two_animals(speaker, first, 1)
    shared = [form(verb, 1) for verb in SHARED_VERBS]
    if speaker.words[conjunction] == "and":
        speaker.relate("conjunction", conjunction, tuple(shared))
        speaker.say("are")
        speaker.say(speaker.choose(TOGETHER))
    else:
        verb = speaker.choose(SHARED_VERBS)
        speaker.relate("conjunction", conjunction, ("are",))
        predicate(speaker, verb, speaker.say(form(verb, 1)))


def two_animals(speaker, first, number):
    """(the) (brown) cat and (the) (black) dog; returns the conjunction's place."""
    conjunction = None
    for place in range(2):
        if not number:
            speaker.say("the")
            if speaker.choose((True, False), (0.3, 0.7)):
                speaker.say(speaker.choose(COLOURS))
        if place == 0:
            speaker.say(first[number])
            conjunction = speaker.say(speaker.choose(("and", "or")))
        else:
            second = speaker.choose(company(first))
            speaker.say(second[number])
    return conjunction


# --------------------------------------------- the language: one program, three uses

# No number is further from all fractions. (1.618 … is the same, but for a whole turn.)
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class Sentence(NamedTuple):
    """A sentence of the language, from <s> to the full stop."""

    words: tuple
    relations: tuple
    log_prob: float  # exact, in nats


class Sampler(Speaker):
    """Use 1: a point of the line from 0 to 1 picks the sentence.

    Each choice cuts the line into its options, each as long as it is likely, and goes on
    within the one that has the point. So each sentence has a stretch of the line as long
    as it is likely (arithmetic coding, read backwards).
    """

    def __init__(self, point):
        super().__init__()
        self.point = point

    def choose(self, options, weights=None):
        i, last = 0, len(options) - 1
        if weights is None:
            self.chance /= len(options)
            self.point *= len(options)
            i = min(int(self.point), last)
            self.point -= i
        else:
            while self.point >= weights[i] and i < last:
                self.point -= weights[i]
                i += 1
            self.point /= weights[i]
            self.chance *= weights[i]
        return options[i]


def sentences_at(points):
    """The sentences that have these points of the line."""
    sentences = []
    with no_collection():
        for point in points:
            speaker = Sampler(point)
            sentence(speaker)
            words, relations = tuple(speaker.words), tuple(speaker.relations)
            sentences.append(Sentence(words, relations, math.log(speaker.chance)))
    return sentences


def sample(count, seed):
    """`count` random sentences of the language, the same for the same seed."""
    rng = random.Random(seed)
    return sentences_at(rng.random() for _ in range(count))


def spread(count, seed):
    """`count` sentences to learn from, evenly spread over the line.

    From each to the next the point moves on by the golden ratio, past the end of the line
    at its beginning again. However many there are, each falls into one of the widest gaps
    that the others have left (Knuth, "The Art of Computer Programming" 3, section 6.4,
    theorem S). So any run of them makes the first choices of the grammar about as often
    as they are likely, and the later ones the more so the longer it is.
    """
    start = random.Random(seed).random()
    return sentences_at((start + i * GOLDEN_RATIO) % 1 for i in range(count))


@contextmanager
def no_collection():
    """Python looks for garbage each time that many objects were made. Here it would find
    none, and look for longer than the sentences take."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Stop(Exception):
    """A replay has said what it was asked for, or has left the prefix."""


class Replay(Speaker):
    """Uses 2 and 3: follow one path of choices, and note where others branch off."""

    def __init__(self, prefix, path):
        super().__init__()
        self.prefix, self.path = prefix, path
        self.taken, self.branches = (), []

    def choose(self, options, weights=None):
        at = len(self.taken)
        if at == len(self.path):  # new ground: the first option now, the others later
            self.branches += [(*self.path, i) for i in range(1, len(options))]
            self.path = (*self.path, 0)
        i = self.path[at]
        self.taken = (*self.taken, i)
        self.chance *= weights[i] if weights else 1 / len(options)
        return options[i]

    def say(self, word):
        at = super().say(word)
        if at >= len(self.prefix):
            raise Stop
        if word != self.prefix[at]:
            self.words.pop()
            raise Stop
        return at


def replays(prefix):
    """Every way in which the grammar says `prefix` and one word more."""
    paths = [()]
    while paths:
        replay = Replay(prefix, paths.pop())
        try:
            sentence(replay)
        except Stop:
            if len(replay.words) > len(prefix):
                yield replay
        paths += replay.branches


@lru_cache(maxsize=4096)
def next_words(prefix):
    """The exact distribution of the word after `prefix`, a tuple of words from <s>.

    A dict from word to probability, likeliest first; empty where no sentence begins
    that way. The grammar is run through every choice that agrees with the prefix.
    """
    chances = {}
    for replay in replays(prefix):
        word = replay.words[-1]
        chances[word] = chances.get(word, 0.0) + replay.chance
    total = sum(chances.values())
    ranked = sorted(chances, key=chances.get, reverse=True)
    return {word: chances[word] / total for word in ranked}


def relations_of(words):
    """The relations in `words`, from <s>: a tuple of Relation, in the order of rows.

    Also of the beginning of a sentence; empty where the words are none.
    """
    found = {}
    for replay in replays(tuple(words)):
        for relation in replay.relations:
            found.setdefault(relation[:3], relation)
    return tuple(sorted(found.values(), key=lambda relation: relation.row))


def in_language(words):
    """Whether the words, from <s> and without the full stop, are a sentence."""
    return END in next_words(tuple(words))


# -------------------------------------------------------------- from text to tensors


class Mistake(ValueError):
    """Something the reader can mend; the message says how."""


def read(text, block_size=None):
    """The words of one typed sentence, after <s>: "The fox eats." is understood.

    Raises Mistake where a word is unknown, where there is none, or too many.
    """
    words = text.lower().replace(",", " ").split()
    words = [word.strip(".!?;:\"'“”‘’…") for word in words]
    words = [BEGIN, *(word for word in words if word and word != BEGIN)]
    if len(words) == 1:
        raise Mistake('the sentence is empty: try "the hungry fox eats the mouse"')
    for word in words:
        if word not in IDS:
            raise Mistake(unknown(word))
    if block_size and len(words) > block_size:
        raise Mistake(
            f"{len(words) - 1} words are too many: this model reads "
            f"{block_size - 1} at most"
        )
    return words


def unknown(word):
    """A line about a word that the language does not have."""
    shown = "".join(c if c.isprintable() else "?" for c in word)
    shown = shown if len(shown) <= 30 else shown[:30] + "…"
    near = difflib.get_close_matches(word[:30], VOCABULARY[2:], n=3, cutoff=0.5)
    hint = (
        f"the nearest are {', '.join(near)}" if near else "see VOCABULARY in train.py"
    )
    return f'"{shown}" is not among the {len(VOCABULARY)} words of the language: {hint}'


def tensors(sentences, block_size):
    """Sentences as ids (N, T) and targets (N, T): each word, and the one after it.

    A row is filled up with full stops that nothing is asked of (target PADDING).
    """
    longest = max(len(s.words) for s in sentences) - 1
    if longest > block_size:
        raise Mistake(
            f"the language has sentences of {longest} tokens: "
            f"block_size={block_size} is too short, {longest} would do"
        )
    ids = torch.full((len(sentences), longest + 1), IDS[END])
    lengths = torch.tensor([len(s.words) for s in sentences])
    filled = torch.arange(longest + 1) < lengths[:, None]  # (N, T + 1)
    ids[filled] = torch.tensor([IDS[word] for s in sentences for word in s.words])
    targets = ids[:, 1:].masked_fill(~filled[:, 1:], PADDING)
    return ids[:, :-1].contiguous(), targets


# ------------------------------------------------------------------------- training


def use_threads():
    """One thread: so small a model gains little from a second core, and threads that
    wait for each other lose much where another program wants that core. One thread is
    also repeatable."""
    torch.set_num_threads(1)


MOST_MEMORY = 4 * 10**9  # bytes: what any laptop has
HELD_OUT_SEED = 20_000_000  # of the sentences that a model is judged on
CORPUS_SEED = 279_000  # with the seed added: of the corpus; tuned, as the rates are
MOST_SEED = HELD_OUT_SEED - CORPUS_SEED - 1  # no corpus begins as those do


def default_config():
    """The default GPT for the language, as many words as it may have grown to."""
    return GPTConfig(vocab_size=max(GPTConfig.vocab_size, len(VOCABULARY)))


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Every field is a flag of `python train.py`."""

    steps: int = 600  # training steps
    batch_size: int = 192  # sentences in a step, a third as many in the first half
    learning_rate: float = 0.028  # at its highest; queries and keys learn faster
    sentences: int = 40000  # size of the training corpus
    eval_every: int = 100  # steps between two looks at the held-out loss
    seed: int = 0  # the same seed gives the same weights, bit for bit
    device: str = "cpu"  # cpu is the fastest for a model this small; or cuda, mps

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            least, most = (0, MOST_SEED) if field.name == "seed" else (1, 10**6)
            if field.type is int and not least <= value <= most:
                wanted = f"it must be a whole number from {least} to {most}"
                raise Mistake(f"{field.name}={value}: {wanted}")
        if self.batch_size > self.sentences:
            raise Mistake(
                f"batch_size={self.batch_size}: it must be at most "
                f"sentences={self.sentences}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise Mistake(
                f"learning_rate={self.learning_rate}: it must be above 0, "
                f"such as {TrainConfig.learning_rate}"
            )
        if self.device.split(":")[0] not in ("cpu", "cuda", "mps"):
            raise Mistake(f"device={self.device}: it must be cpu, cuda or mps")


class HeldOut:
    """Sentences sampled apart from the training corpus, as tensors, with their floor.

    A language of short sentences says some of them again and again. What a model knows
    of the language is judged on all of `count` fresh sentences; what its heads do, only
    on those that are not in `seen`, the sentences of the training corpus.
    """

    def __init__(self, block_size, unseen=None, count=6000, seen=()):
        sentences = sample(count, HELD_OUT_SEED)
        if unseen is None:
            unseen = torch.tensor([s.words not in seen for s in sentences])
        self.unseen = unseen  # (count,) bool
        self.sentences = [s for s, keep in zip(sentences, unseen.tolist()) if keep]
        self.ids, self.targets = tensors(self.sentences, block_size)  # (N, T)
        self.counts = self.targets != PADDING  # (N, T) bool

    def floor(self):
        """The loss that no model can beat, in nats a word: the entropy of the language,
        as the mean of the exact log-probabilities of the sentences.

        It holds for sentences as the language says them. Those that a corpus has not
        are rare ones: on them alone, a model that takes what is rare for a little
        likelier than it is comes out below.
        """
        return -sum(s.log_prob for s in self.sentences) / self.counts.sum().item()


class Muon(torch.optim.Muon):
    """PyTorch's, in full precision, and without the import of its compiler.

    PyTorch's works in bfloat16, which a GPU multiplies faster; matrices as small as ours
    a CPU multiplies faster in float32 (`python tests/benchmark.py speed`).

    torch.optim wraps some methods for torch.compile; the first call of a wrapper imports
    all of the compiler, and the reader waits. Nothing is compiled here, so the methods
    are taken out of their wrappers.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)

    def step(self, closure=None):
        # PyTorch's rounds by one call, tensor.bfloat16(), and works on the result in
        # place. While it steps, that call, wherever it is made, is a plain copy.
        with patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
            return super().step(closure)


class AdamW(torch.optim.AdamW):
    """PyTorch's, without the import of its compiler (see Muon)."""

    add_param_group = Muon.add_param_group
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def optimizers(model, learning_rate):
    """Muon for the matrices inside the blocks, AdamW for all the rest.

    Muon (Jordan et al. 2024) makes a step equally long in every direction of a matrix.
    Not so for queries and keys: there, ns_steps=0 keeps the gradient's own direction, only
    scaled to length 1. What a class of words has in common, the gradient's strongest
    direction, is then learned before what sets its members apart, and more relations have
    a head that looks at the right word (`python tests/benchmark.py choices`).
    """
    looking, working = [], []
    for block in model.blocks:
        looking += [block.attention.query.weight, block.attention.key.weight]
    for p in model.blocks.parameters():
        if p.dim() == 2 and all(p is not q for q in looking):
            working.append(p)
    inside = {id(p) for p in looking + working}
    rest = [p for p in model.parameters() if id(p) not in inside]
    # Rates and momentum were tuned by `python tests/benchmark.py heads`, seeds 0 to 4.
    muon = Muon(
        [
            {"params": looking, "peak": 1.28 * learning_rate, "ns_steps": 0},
            {"params": working, "peak": learning_rate},
        ],
        momentum=0.9,
        weight_decay=0.0,
    )
    adam = AdamW(
        [{"params": rest, "peak": learning_rate}],
        betas=(0.9, 0.95),
        weight_decay=0.0,
        fused=True,
    )
    return muon, adam


def schedule(step, settings, warm_up=20):
    """The share of the learning rate at a step, and how many sentences it learns from.

    Far from the goal a rough direction will do: in the first half of the steps a batch is
    a third of `batch_size`, and the rate climbs for 20 steps, then stays at its highest.
    In the second half the batch is whole, and the rate falls linearly to 0. Both make the
    steps less noisy (Smith et al. 2018, "Don't Decay the Learning Rate, Increase the Batch
    Size").
    """
    left = 1 - step / settings.steps  # of the steps, from 1 to 0
    rate = min(1.0, (step + 1) / warm_up, 2 * left)
    whole = settings.batch_size
    return rate, whole if left <= 0.5 else max(1, whole // 3)


@torch.no_grad()
def loss_of(model, ids, targets):
    """The mean loss, in nats a word, without dropout."""
    was_training = model.training
    model.eval()
    loss = model.loss(ids, targets).item()
    model.train(was_training)
    return loss


def loss_and_floor(model):
    """The loss on fresh sentences, and the floor under it, in nats a word."""
    fresh = HeldOut(model.config.block_size)
    return loss_of(model, fresh.ids, fresh.targets), fresh.floor()


def memory(config, settings):
    """About how many bytes training takes at its fullest."""
    width, layers, batch = config.n_embd, config.n_layer, settings.batch_size
    weights = (config.vocab_size + config.block_size + 12 * width * layers) * width
    # In a batch each layer keeps some 20 vectors of a word; the 6,000 held-out
    # sentences pass through one layer at a time.
    features = (20 * layers * batch + 10 * 6000) * width
    logits = 3 * (batch + 6000) * config.vocab_size
    return 4 * (4 * weights + 12 * (features + logits))  # 4: gradient, two averages


class Moment(NamedTuple):
    """What training looks like at an evaluation."""

    step: int
    loss: float  # of the last batch
    held_out: float  # on fresh sentences
    floor: float  # of the same sentences
    seconds: float

    @property
    def above(self):
        """How far the held-out loss is above the floor, in percent."""
        return 100 * (self.held_out / self.floor - 1)


def train(config, settings, watch=lambda model, moment: None):
    """Train a new GPT; returns it in eval mode on the CPU, and the held-out sentences.

    `watch(model, moment)` is called before the first step, at every evaluation, and at
    the end. Raises Mistake where the language does not fit into the configuration, and
    where the loss is no longer a number.
    """
    if config.vocab_size < len(VOCABULARY):
        raise Mistake(
            f"the language has {len(VOCABULARY)} words: "
            f"vocab_size={config.vocab_size} is too small"
        )
    if (size := memory(config, settings)) > MOST_MEMORY:
        raise Mistake(
            f"training would take about {size // 10**9} GB of memory: vocab_size, "
            "block_size, n_layer, n_embd or batch_size must be smaller"
        )
    start = time.perf_counter()
    use_threads()
    torch.manual_seed(settings.seed)
    try:
        model = GPT(config).to(settings.device).train()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise Mistake(f"device={settings.device} can't be used: {reason}") from None
    model.words = VOCABULARY
    with no_collection():
        corpus = spread(settings.sentences, CORPUS_SEED + settings.seed)
        held_out = HeldOut(config.block_size, seen={s.words for s in corpus})
        pair = tensors(corpus, config.block_size)
        del corpus  # before it is looked through for garbage
    ids, targets = (t.to(settings.device) for t in pair)
    fresh = HeldOut(config.block_size, count=1024)
    fresh_ids, fresh_targets = (
        t.to(settings.device) for t in (fresh.ids, fresh.targets)
    )

    def look(step, loss):
        held = loss_of(model, fresh_ids, fresh_targets)
        if not math.isfinite(held):
            raise Mistake(
                f"at step {step} the loss is no longer a number: "
                f"learning_rate={settings.learning_rate} is too high, "
                f"{TrainConfig.learning_rate} works"
            )
        seconds = time.perf_counter() - start
        watch(model, Moment(step, loss, held, fresh.floor(), seconds))

    muon_and_adam = optimizers(model, settings.learning_rate)
    end = 0
    loss = torch.tensor(math.log(config.vocab_size))
    for step in range(settings.steps):
        if step % settings.eval_every == 0:
            look(step, loss.item())
        rate, batch_size = schedule(step, settings)
        begin, end = end, end + batch_size
        batch = torch.arange(begin, end) % len(ids)  # the next so many sentences
        loss = model.loss(ids[batch], targets[batch])
        loss.backward()
        for optimizer in muon_and_adam:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
        model.zero_grad()
    look(settings.steps, loss.item())
    model.eval().measure_means(ids[:4096], targets[:4096] != PADDING)
    return model.cpu(), held_out


# ------------------------------------------------------------- looking inside: heads


class Inspection(NamedTuple):
    """One sentence, and where each head looks in it."""

    words: list  # T strings, the first is <s>
    weights: torch.Tensor  # (n_layer, n_head, T, T), rows sum to 1


def inspect_attention(model, sentence):
    """Where each head looks in a sentence, typed as text or given as its words.

    Raises Mistake where a word is unknown, or the sentence too long for the model.
    """
    text = sentence if isinstance(sentence, str) else " ".join(sentence)
    words = read(text, model.config.block_size)
    ids = torch.tensor([[IDS[word] for word in words]])
    maps = model.attention_maps(ids.to(model.token.weight.device))
    return Inspection(words, torch.stack([layer[0] for layer in maps]).cpu())


def head_names(config):
    """L1H1, L1H2, …: layer by layer, counted from 1."""
    layers, heads = range(1, config.n_layer + 1), range(1, config.n_head + 1)
    return [f"L{layer}H{head}" for layer in layers for head in heads]


class Relations:
    """Each place in the held-out sentences where a relation settles the next word."""

    def __init__(self, held_out, name):
        found = [
            (b, relation)
            for b, s in enumerate(held_out.sentences)
            for relation in s.relations
            if relation.name == name and relation.source < relation.row
        ]
        self.name = name
        self.sentence = torch.tensor([b for b, _ in found], dtype=torch.int64)  # (n,)
        self.row = torch.tensor([r.row for _, r in found], dtype=torch.int64)  # (n,)
        self.source = torch.tensor([r.source for _, r in found])  # (n,)
        self.right = held_out.targets[self.sentence, self.row]  # (n,)
        # The words that would be right, were the source another word: (n, at most k).
        most = max((len(r.wrong) for _, r in found), default=0)
        wrong = [[IDS[w] for w in r.wrong] for _, r in found]
        self.wrong = torch.tensor([w + w[:1] * (most - len(w)) for w in wrong])
        # Whether a second noun phrase stands between the source and the row.
        self.distracted = torch.tensor(
            [
                any(
                    word in PREPOSITIONS
                    for word in held_out.sentences[b].words[r.source : r.row + 1]
                )
                for b, r in found
            ]
        )
        # A head is chosen on the even sentences and scored on the odd ones.
        self.choosing = self.sentence % 2 == 0
        self.scoring = ~self.choosing

    def looks(self, maps):
        """The rows that decide, of every head: (n, heads, T)."""
        rows = [layer[self.sentence, :, self.row] for layer in maps]
        return torch.cat(rows, dim=1)

    def hits(self, maps):
        """Whether a head's largest weight lies on the source: (n, heads) bool."""
        return self.looks(maps).argmax(-1) == self.source[:, None]

    def weights(self, maps):
        """The weight of each head on the source: (n, heads)."""
        n = torch.arange(len(self.source))
        return self.looks(maps)[n, :, self.source]

    def decided(self, logits):
        """Whether the right word comes before every wrong one, (n,) bool, by the logits
        of the rows that decide, (n, vocab_size)."""
        right = logits.gather(1, self.right[:, None])  # (n, 1)
        return (right > logits.gather(1, self.wrong)).all(dim=1)

    def best_offset(self):
        """The best fixed offset, always so many words back, and how often it is
        right on the scored half."""
        offsets = self.row - self.source
        best = offsets[self.choosing].mode().values
        return best.item(), (offsets == best)[self.scoring].float().mean().item()


class Role(NamedTuple):
    """What the heads do for one relation; all of it on the half not used to choose."""

    name: str
    count: int  # decisions scored
    head: int  # the head with the best top-1, chosen on the other half
    top1: list  # of each head: how often its largest weight is on the source
    weight: list  # of each head: its mean weight on the source
    cost: list  # of each head: the rise of the loss without it, in nats
    offset: int  # the best fixed offset on the other half
    offset_top1: float  # and how often it is right
    first_top1: float  # always looking at the first position
    untrained_top1: float  # the best head of an untrained model, chosen in the same way
    right: float  # share of right decisions with all heads
    right_far: float  # the same over distractors (nan where there are none)
    right_without: float  # share of right decisions without the head
    right_far_without: float


@torch.no_grad()
def measure(model, held_out):
    """The role of the heads in every relation: a list of Role, syntactic ones first.

    Raises Mistake where a changed grammar has no relation that looks back.
    """
    model = model.to("cpu").eval()
    ids, config = held_out.ids, model.config
    found = [Relations(held_out, name) for name in RELATIONS]
    relations = [r for r in found if len(r.row)]  # a changed grammar may have fewer
    if not relations:
        raise Mistake("no relation of this grammar looks back: nothing to measure")
    where = torch.cat([r.sentence * ids.size(1) + r.row for r in relations])

    def logits():
        x, _ = model.embed_and_attend(ids, wanted=where)  # (n, n_embd)
        return model.read_out(x)  # (n, vocab_size), n of all relations together

    told = [logits()]  # with all heads, then without each in turn
    for layer in range(config.n_layer):
        for head in range(config.n_head):
            with model.heads_off([(layer, head)]):
                told.append(logits())
    parts = torch.stack(told).split([len(r.row) for r in relations], dim=1)
    maps = model.attention_maps(ids), untrained(config).attention_maps(ids)
    return [role_of(r, *maps, part) for r, part in zip(relations, parts)]


def role_of(r, maps, untrained_maps, logits):
    """One relation's Role. r: its Relations. logits: with all heads, then without each,
    in the rows that decide, (1 + heads, n, vocab_size)."""
    right = r.right.expand(logits.shape[:2])  # (1 + heads, n)
    flat = logits.flatten(0, 1), right.flatten()
    losses = F.cross_entropy(*flat, reduction="none").view_as(right)
    rise = losses[1:] - losses[0]  # (heads, n), in nats
    hits, blank_hits = r.hits(maps).float(), r.hits(untrained_maps).float()
    # The head that looks best; where several look equally well, the one of them that
    # is needed most. Chosen on one half of the sentences, scored on the other.
    look, need = hits[r.choosing].mean(0), rise[:, r.choosing].mean(1)  # (heads,)
    head = need.where(look >= look.max() - 0.005, -torch.inf).argmax().item()
    blank = blank_hits[r.choosing].mean(0).argmax()
    offset, offset_top1 = r.best_offset()
    right, without = (r.decided(logits[i]).float() for i in (0, 1 + head))
    far = r.scoring & r.distracted
    return Role(
        name=r.name,
        count=int(r.scoring.sum()),
        head=head,
        top1=hits[r.scoring].mean(0).tolist(),
        weight=r.weights(maps)[r.scoring].mean(0).tolist(),
        cost=rise[:, r.scoring].mean(1).tolist(),
        offset=offset,
        offset_top1=offset_top1,
        first_top1=(r.source[r.scoring] == 0).float().mean().item(),
        untrained_top1=blank_hits[r.scoring, blank].mean().item(),
        right=right[r.scoring].mean().item(),
        right_far=right[far].mean().item(),
        right_without=without[r.scoring].mean().item(),
        right_far_without=without[far].mean().item(),
    )


IDLE = 0.05  # nats: a head whose removal costs less everywhere has no job


def jobs(roles):
    """What each head turned out to do: for each head the roles in which it is the one
    that looks best, the best first; an empty list where there are none."""
    heads = range(len(roles[0].cost))
    return [
        sorted((r for r in roles if r.head == head), key=lambda r: -r.cost[head])
        for head in heads
    ]


def untrained(config, seed=0):
    """The same architecture before training: the baseline of every claim."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT(config).eval()


# ------------------------------------------------------------- looking inside: words


@torch.no_grad()
def expect(model, words):
    """The model's distribution of the next word after `words`: a dict, likeliest first."""
    ids = torch.tensor([[IDS[word] for word in words]])
    chances = model(ids.to(model.token.weight.device))[0][0, -1].softmax(-1).cpu()
    order = chances.argsort(descending=True).tolist()
    return {VOCABULARY[i]: chances[i].item() for i in order if i < len(VOCABULARY)}


@torch.no_grad()
def generate_many(model, count, prompt="", temperature=1.0, top_k=None, seed=None):
    """`count` sentences at once, each a list of words from <s>, without the full stop.

    prompt: how each of them begins. temperature: 0 takes the likeliest word each time
    (greedy), 1 samples the model's own distribution, lower is bolder, higher wilder.
    top_k: only the so many likeliest words are sampled from. seed: makes it repeatable.
    Raises Mistake where the prompt or a number makes no sense.
    """
    if not 0 <= temperature < math.inf:
        raise Mistake(f"temperature={temperature}: it must be 0 or more")
    if top_k is not None and top_k < 1:
        raise Mistake(f"top_k={top_k}: it must be 1 or more")
    size = model.config.block_size
    words = read(prompt, size) if prompt.strip() else [BEGIN]
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    ids = torch.tensor([[IDS[word] for word in words]] * count)  # (count, T)
    ended = torch.zeros(count, dtype=torch.bool)
    while ids.size(1) < size and not ended.all():
        going = ids[~ended].to(model.token.weight.device)  # the others have ended
        T = going.size(1)
        last = torch.arange(T - 1, going.numel(), T, device=going.device)  # (going,)
        x, _ = model.embed_and_attend(going, wanted=last)  # (going, n_embd)
        logits = model.read_out(x).cpu()  # (going, vocab)
        if top_k:
            kept = logits.topk(min(top_k, logits.size(-1))).values
            logits[logits < kept[:, -1:]] = -math.inf
        word = torch.full((count, 1), IDS[END])
        if temperature:
            chances = (logits / temperature).softmax(-1)
            word[~ended] = torch.multinomial(chances, 1, generator=generator)
        else:
            word[~ended] = logits.argmax(-1, keepdim=True)
        ended |= word[:, 0] == IDS[END]
        ids = torch.cat([ids, word], dim=1)
    rows = (
        [VOCABULARY[min(i, len(VOCABULARY) - 1)] for i in row] for row in ids.tolist()
    )
    return [row[: row.index(END)] if END in row else row for row in rows]


def generate(model, prompt="", temperature=1.0, top_k=None, seed=None):
    """A sentence, as text; the arguments are those of `generate_many`."""
    words = generate_many(model, 1, prompt, temperature, top_k, seed)[0]
    return " ".join(words[1:]) + END


def share_in_language(model, count=1000, temperature=1.0, seed=0):
    """The share of sampled sentences that are in the language, by the exact test."""
    told = generate_many(model, count, temperature=temperature, seed=seed)
    return sum(in_language(words) for words in told) / count


# ------------------------------------------------------------------- the checkpoint

CHECKPOINT = "checkpoint.pt"
RETRAIN = '"python train.py" makes a new one'


def fingerprint():
    """A number that changes with the words and the grammar."""
    told = [(s.words, round(s.log_prob, 6)) for s in sample(200, HELD_OUT_SEED)]
    return zlib.crc32(repr((VOCABULARY, told)).encode())


def digest(content):
    """A checksum of all that a checkpoint says, tensors included."""
    sha = hashlib.sha256()
    for name in sorted(content):
        value = content[name]
        if isinstance(value, dict):
            value = digest(value)
        if isinstance(value, torch.Tensor):
            sha.update(f"{value.dtype} {tuple(value.shape)}".encode())
            value = value.contiguous().numpy().tobytes()
        sha.update(f"{name}=".encode())
        sha.update(value if isinstance(value, bytes) else repr(value).encode())
    return sha.hexdigest()


def write(path, data):
    """Write bytes under another name and rename: the old file is whole until then."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        handle, temporary = tempfile.mkstemp(".tmp", "toy-gpt-", folder)
    except OSError as error:
        raise Mistake(f"can't write into {folder}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's would shut out the rest of a class
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # it may have its new name already
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise Mistake(f"can't write {path}: {error.strerror}") from None
        raise


def save_checkpoint(path, model, held_out, settings):
    """Write the model, and what it takes to trust it later. Raises Mistake."""
    content = {
        "config": asdict(model.config),
        "settings": asdict(settings),
        "vocabulary": VOCABULARY,
        "language": fingerprint(),
        "unseen": held_out.unseen,
        "state": {name: t.cpu() for name, t in model.state_dict().items()},
    }
    file = io.BytesIO()
    torch.save({**content, "digest": digest(content)}, file)
    write(path, file.getvalue())


def load_checkpoint(path):
    """The model in eval mode, and the sentences it has not seen. Raises Mistake, with
    one line about what is wrong and what to do, unless the file is whole and fits."""
    try:
        with open(path, "rb") as file:
            data = io.BytesIO(file.read())
    except OSError as error:
        raise Mistake(f"can't read {path}: {error.strerror}; {RETRAIN}") from None
    try:
        content = torch.load(data, weights_only=True)
    except Exception:  # noqa: BLE001 (whatever a broken file does to the reader)
        raise Mistake(f"{path} is damaged, or not a checkpoint; {RETRAIN}") from None
    try:
        told = content.pop("digest")
        whole = told == digest(content)
        same_words = content["vocabulary"] == VOCABULARY
        same_language = content["language"] == fingerprint()
    except Exception:  # noqa: BLE001 (not our dictionary)
        raise Mistake(f"{path} is not a checkpoint of Toy GPT; {RETRAIN}") from None
    if not whole:
        raise Mistake(f"{path} is damaged: its checksum is wrong; {RETRAIN}")
    if not (same_words and same_language):
        what = "grammar" if same_words else "vocabulary"
        raise Mistake(f"{path} was trained with another {what} than today's; {RETRAIN}")
    try:
        # Debug mode belongs to the training that asked for it.
        model = GPT(GPTConfig(**{**content["config"], "debug": False}))
        model.load_state_dict(content["state"])
    except Exception:  # noqa: BLE001 (written by another version of model.py)
        raise Mistake(f"{path} does not fit today's model.py; {RETRAIN}") from None
    model.words = VOCABULARY
    use_threads()
    return model.eval(), HeldOut(model.config.block_size, unseen=content["unseen"])


def differences(config):
    """What a checkpoint's configuration has that today's defaults have not."""
    default = default_config()
    return [
        f"{f.name}={getattr(config, f.name)} (now {getattr(default, f.name)})"
        for f in fields(config)
        if f.name != "debug" and getattr(config, f.name) != getattr(default, f.name)
    ]


def load(path=CHECKPOINT):
    """The trained model and its held-out sentences; trains the default model first
    where there is no checkpoint. Says what it does in one line. Raises Mistake."""
    folder = os.path.dirname(os.path.abspath(path))
    if path and os.path.isdir(folder) and not os.path.lexists(path):
        say_aside(f"There is no {path} here yet: training the default model first.")
        settings = TrainConfig()
        model, held_out = train(default_config(), settings, Progress())
        try:
            save_checkpoint(path, model, held_out, settings)
        except Mistake as mistake:
            say_aside(f"The model is not kept: {mistake}")
        return model, held_out
    model, held_out = load_checkpoint(path)
    if different := differences(model.config):
        say_aside(
            f"{path} was trained with {', '.join(different)}; "
            '"python train.py" trains the default.'
        )
    return model, held_out


def load_model(path=CHECKPOINT):
    """The trained model, in eval mode; the default one is trained first where there is
    no checkpoint. Raises Mistake where the file is broken, or of another language."""
    return load(path)[0]


# ---------------------------------------------------------------- talking to a person


def say_aside(line):
    """To the person, not into the output."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """Shows training as it goes: one live line in a terminal, a line each elsewhere."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, model, moment):
        line = (
            f"step {moment.step:>5}   loss {moment.loss:.3f}   "
            f"held out {moment.held_out:.3f}   floor {moment.floor:.3f}   "
            f"{moment.above:6.2f}% above   {moment.seconds:4.1f} s"
        )
        print(line, end="\r" if self.live else "\n", file=self.stream, flush=True)

    def close(self):
        """Leave the live line standing."""
        if self.live:
            print(file=self.stream)


def plain(error):
    """What a terminal without Unicode shows instead: an arrow becomes "->"."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    instead = {"▸": ">", "→": "->", "←": "<-", "·": "-", "–": "-", "…": "...", "×": "x"}
    shown = (instead.get(c, "?") for c in error.object[error.start : error.end])
    return "".join(shown), error.end


def one_line(message, most=170):
    """A message without line breaks and control characters, and not endless."""
    line = "".join(c if c.isprintable() else "?" for c in str(message))
    if len(line) > most:
        line = f"{line[: most // 2]} … {line[-most // 2 :]}"
    return line


@contextmanager
def polite():
    """Run a script's main part so that whatever happens ends in one line.

    A Mistake: the line, status 2. Ctrl-C: status 130. A closed pipe: quietly.
    """
    codecs.register_error("plain", plain)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the script
            setattr(sys, name, io.StringIO())
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="replace" if name == "stdin" else "plain")
    script = os.path.basename(sys.argv[0])
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except Mistake as mistake:
        say_aside(f"{script}: {one_line(mistake)}")
        sys.exit(2)
    except KeyboardInterrupt:
        say_aside(f"\n{script}: stopped. Nothing was written that is not whole.")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses in one line."""

    def __init__(self, doc):
        super().__init__(
            description=doc.split("\n\n")[0],
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message):
        raise Mistake(f"{message} (--help shows what there is)")


def add_flags(parser, config):
    """A flag for every field of a dataclass, with the values of `config` as defaults;
    the comment beside a field is its help."""
    source = inspect.getsource(type(config))
    comments = dict(re.findall(r"^    (\w+):.*?  # (.+)$", source, re.MULTILINE))
    for field in fields(config):
        if field.type is bool:
            kind = {"action": "store_true"}
        else:
            kind = {"type": field.type, "metavar": field.type.__name__.upper()}
        kind["default"] = getattr(config, field.name)
        flag = parser.add_argument(f"--{field.name}", **kind)
        flag.help = comments[field.name].replace("%", "%%")


def from_flags(config, flags):
    """The dataclass that the flags describe. Raises Mistake."""
    try:
        return config(**{f.name: getattr(flags, f.name) for f in fields(config)})
    except ValueError as error:
        raise Mistake(str(error)) from None


def main():
    """`python train.py`: train, save, and say how good the model is."""
    parser = Parser(__doc__)
    add_flags(parser, default_config())
    add_flags(parser, TrainConfig())
    parser.add_argument("--out", default=CHECKPOINT, help="where the model is written")
    flags = parser.parse_args()
    config, settings = from_flags(GPTConfig, flags), from_flags(TrainConfig, flags)
    check_target(flags.out)

    progress = Progress()
    try:
        model, held_out = train(config, settings, progress)
    finally:
        progress.close()
    save_checkpoint(flags.out, model, held_out, settings)

    loss, floor = loss_and_floor(model)
    unseen = loss_of(model, held_out.ids, held_out.targets)
    shares = [share_in_language(model, temperature=t) for t in (1.0, 0.7)]
    print(f"""
{sum(p.numel() for p in model.parameters()):,} parameters, seed {settings.seed}, written to {flags.out}
Loss on fresh sentences: {loss:.4f} nats a word.
No model can beat {floor:.4f}, the entropy of the language: it is {100 * (loss / floor - 1):.2f}% above that floor.
On the {len(held_out.sentences):,} rarer ones that its corpus had not: {unseen:.4f}; the grammar's own {held_out.floor():.4f}.
In the language: {shares[0]:.1%} of 1,000 sentences sampled at temperature 1, {shares[1]:.1%} at 0.7.
Now look inside: python example.py""")


def check_target(path):
    """Raise Mistake now, and not after the training, where path can't be written."""
    try:
        os.stat(path or ".")
        if not os.path.isfile(path):
            what = "a folder" if os.path.isdir(path or ".") else "a device"
            raise Mistake(f'"{path}" is {what}: --out must name a file')
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Mistake(f"can't write {path}: {error.strerror}") from None
    folder = os.path.dirname(os.path.abspath(path))
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise Mistake(f"can't write into {folder}: choose another place with --out")


if __name__ == "__main__":
    with polite():
        main()
