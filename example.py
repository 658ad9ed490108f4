"""Swap a word, and see which head knows: word relationships in the terminal.

python example.py                # four swaps, what every head does, and a prompt
python example.py "the cat near the dog" "cat -> cats"   # your own, and a swap
python example.py --words        # the words it knows
"""

import math
import os
import random
import shutil
import signal
import sys
import textwrap
from contextlib import suppress

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends torch's import quietly

import train
from train import Mistake, expect, minimal_pair, next_words, read, relations_of

EXAMPLES = (  # a sentence up to the row that decides, and the swap
    ("the cat near the dogs", "cat → cats"),
    ("the hungry fox", "hungry → sleepy"),
    ("the cat and the dog", "and → or"),
    ("the dog eats the", "dog → horse"),
)
WIDTH = max(30, min(79, shutil.get_terminal_size().columns)) - 1
COLOURED = sys.stdout and sys.stdout.isatty() and "NO_COLOR" not in os.environ
BOLD, BLUE, PLAIN = ("\033[1m", "\033[38;5;69m", "\033[0m") if COLOURED else 3 * [""]


def heading(text):
    print(f"\n{BOLD}{textwrap.fill(text, WIDTH)}{PLAIN}")


def tell(text, indent=""):
    """A paragraph; nothing where the text is empty."""
    for line in textwrap.wrap(" ".join(text.split()), WIDTH - len(indent)):
        print(indent + line)


def percent(chances, count=2):
    """The first words of a distribution, the likeliest: "eats 79%, drinks 2%"."""
    shown = [f"{word} {p:.0%}" for word, p in chances.items() if p > 0.005][:count]
    return ", ".join(shown or ["(outside the language)"]).replace(train.END, "(end)")


def show_map(model, words, head):
    """A head's map: each row looks back at the words above and at itself. The more
    weight, the fuller the cell. Over a column stand its word's first two letters."""
    weights = train.inspect_attention(model, words).weights.flatten(0, 1)[head]
    width = max(map(len, words))
    print(f"  {train.head_names(model.config)[head]} looks back:")
    print(f"    {'':>{width}} {' '.join(f'{word:<2.2}' for word in words)}")
    for word, row in zip(words, weights.tolist()):
        cells = " ".join(2 * " ░▒▓█"[round(4 * weight)] for weight in row)
        print(f"    {word:>{width}} {BLUE}{cells.rstrip()}{PLAIN}")


def swap_in(words, swap):
    """The Pair of `words` and, for "cat → cats", the same with "cats" for the last "cat",
    up to the row that this changes most, if possible a later one. Raises Mistake."""
    parts = train.listed(swap.replace("→", " → "))
    if len(parts) != 3 or parts[1] != "→" or parts[2] in (train.BEGIN, ""):
        raise Mistake('a swap names two words: "cat → cats"')
    old, _, new = parts
    if old not in words[1:]:
        raise Mistake(f'"{old}" is not in the last sentence read: type one with it')
    source = len(words) - 1 - words[::-1].index(old)
    swapped = read([*words[:source], new, *words[source + 1 :]])

    def changed(end):
        own, other = next_words(words[:end]), next_words(swapped[:end])
        differ = own.keys() ^ other.keys() if own and other else ()
        chance = sum((own | other)[word] for word in differ)
        return chance > 0, end > source + 1, chance  # rather a later row

    end = max(range(len(words), source, -1), key=changed)
    return train.Pair(tuple(words[:end]), tuple(swapped[:end]), source)


def carrier(model, pair):
    """The head that carries most of a pair's decision, flat from 0, and its share; nan
    where the swap doesn't turn the odds twofold, or the likeliest word can't follow."""
    clean, other, patched = train.patch_each_head(model, [pair])
    shares = train.shares_of(clean, other, patched)
    head = shares.index(max(shares))
    sane = all(next(iter(expect(model, w))) in next_words(w) for w in pair[:2])
    return head, shares[head] if sane and clean - other > math.log(2) else math.nan


def show_swap(model, pair):
    """Which head knows: a word is swapped, and one head alone hears of it."""
    words, swapped, source = pair
    heading(f"{' '.join(words[1:])} ▸ …   ({words[source]} → {swapped[source]})")
    said = {f"it reads {w[source]}": expect(model, w) for w in (words, swapped)}
    head, share = carrier(model, pair)
    if source == len(words) - 1:
        text = "This row reads the swapped word itself: no head need report it."
    elif math.isnan(share):
        text = """No decision to share out: both may go on with the same words (if less
            often), one has left the language, or the model does not know it."""
    else:
        layer, place = train.heads_of(model.config)[head]
        name = train.head_names(model.config)[head]
        text = f"So {name} carries {share:.0%} of this decision."
        show_map(model, words, head)
        given = model.head_outputs(train.as_ids(swapped))[layer][:, place]
        with model.patch_heads({(layer, place): given}):
            said[f"only {name} hears {swapped[source]}"] = expect(model, words)
    for reader, chances in said.items():
        print(f"  {reader:<{max(map(len, said))}}  says {percent(chances)}")
    tell(text, "  ")
    both = zip(pair, train.apart(words, swapped))
    truth, after = (percent({w: next_words(s)[w] for w in side}, 3) for s, side in both)
    tell(f"the truth parts them: {truth}; after the swap: {after}", "  ")


def show_sentence(model, words):
    """A reader's sentence: its relations, the map of the last, and what comes next."""
    maps = train.inspect_attention(model, words).weights.flatten(0, 1)  # (heads, T, T)
    names, head = train.head_names(model.config), 0
    heading(" ".join(words[1:]))
    said = words[: len(train.follow(words)[0]) + 1]  # as far as it is in the language
    found = dict.fromkeys(r for w in next_words(said) for r in relations_of([*said, w]))
    for name, row, source in found:
        if pair := minimal_pair(tuple(words[: row + 1]), source, random.Random(0)):
            head, share = carrier(model, pair)
            told = f"carries {share:.0%}, and looks there {maps[head, row, source]:.0%}"
            told = f"{names[head]} {told}" if share > 0 else "no clear decision"
            print(f"  {words[row]} ▸ {[*words, '…'][row + 1]}: {name}")
            tell(f"{words[source]} → {pair.swapped[source]}: {told}", "    ")
    tell("" if found else "No measured relation here. A map:", "  ")
    show_map(model, words, head)
    print(f"  next, the model: {percent(expect(model, words), 3)}")
    print(f"  next, the truth: {percent(next_words(words), 3)}")
    tell(train.leaves(words), "  ")


def show_heads(model, held_out):
    """The table of relations, each head's jobs in words, the lesson of removing one."""
    roles, names = train.measure(model, held_out), train.head_names(model.config)
    heading(f"What the heads do ({min(r.count for r in roles)} or more swaps each)")
    tell("""looks: how often the head's largest weight is on the right word. carries: how
        much of the decision moves when this head alone hears of the swap (shared: even
        the most is under half; in several layers shares overlap). flips: how often it
        decides the other way then. back, untrained: looks of "always n words back", of
        an untrained model's best head. (adjective → noun: the verb after the noun.)""")
    below = "\n   " if WIDTH < 66 else ""  # a narrow terminal gets two lines
    print(f"\n  {'relation':<19}{below} head   looks   carries flips   back untrained")
    for r in roles:
        own = r.looks[r.head], r.carries[r.head], r.flips[r.head]
        cells = [f"{x:z5.2f}" for x in (*own, r.offset_looks, r.untrained_looks)]
        line = f"{'shared' if r.shared else names[r.head]:<6} {'   '.join(cells)}"
        print(f"  {r.name:<19}{below} {line if r.known else 'not known: mostly wrong'}")
    print()
    known, cases = [r for r in roles if r.known], []
    for head, name in enumerate(names if known else ()):
        shares = [(r.carries[head], r.name) for r in known]
        jobs = ", ".join(f"{job} {share:.0%}" for share, job in shares if share > 0.2)
        idle = [r for r in known if abs(r.carries[head]) < 0.1]
        looks = ", ".join(r.name for r in idle if r.looks[head] >= 0.95)
        only = f"; looks in 95% without carrying: {looks}" if looks else ""
        tell(f"{name} carries {jobs or 'under 20% of each known one'}{only}.")
        cases += [(r.removal[head], r.carries[head], r.name, name) for r in idle]
    lost, share, relation, name = max(cases, default=(0, 0, "", ""))
    if lost > 0.1:
        tell(f"""Removing a head asks another question. The largest case: with {name}
            switched off (it gives its average) {lost:.0%} of the decision of {relation}
            is lost, yet it carries {share:z.0%}. Whatever else it says is gone too.""")


def ask(model):
    """The reader's own sentences and swaps, until an empty line or Ctrl-D."""
    words = []
    tell('Type a sentence; then swap a word of it, "cat → cats". An empty line ends.')
    with suppress(EOFError):
        while line := input("\n> ").strip().replace("->", "→"):
            try:
                if "→" in line:
                    show_swap(model, swap_in(words, line))
                else:
                    show_sentence(model, words := read(line, model.config.block_size))
            except Mistake as mistake:
                tell(str(mistake), "  ")
    print()


def main():
    """`python example.py`: the examples and the table, or the reader's sentences."""
    parser = train.Parser("Swap a word, and see which head knows.")
    parser.add_argument("sentence", nargs="*", help='yours, and swaps: "cat -> cats"')
    parser.add_argument("--checkpoint", default=train.CHECKPOINT, help="the model")
    parser.add_argument("--words", action="store_true", help="the words it knows")
    flags = parser.parse_args()
    if flags.words:
        for kind, members in train.KINDS.items():
            tell(f"{kind}: {', '.join(members)}")
        heading("Ten random sentences: an animal does or is something")
        for sentence in train.sample(10, None):
            tell(" ".join(sentence.words[1:]))
        return
    lines = [line.replace("->", "→") for line in flags.sentence]
    said = [line for line in lines if "→" not in line]
    words = read(" ".join(said)) if said else []  # a typo shows before a training
    pairs = [swap_in(words, line) for line in lines if "→" in line]
    model, held_out = train.load(flags.checkpoint)
    tell("""In a map a row has read its word, and is about to say the next. It looks at
        the words named above: the fuller a cell, the more; blank: under an eighth.""")
    if words:
        show_sentence(model, words)
        for pair in pairs:
            show_swap(model, pair)
        return
    for sentence, swap in EXAMPLES:
        with suppress(Mistake):  # an edited language may lack its words
            show_swap(model, swap_in(read(sentence), swap))
    show_heads(model, held_out)
    heading("The model speaks (* is not in the language)")
    for words in train.generate_many(model, 5, seed=0):
        print(f"  {' '.join(words[1:])}.{'' if train.in_language(words) else ' *'}")
    if sys.stdin.isatty() and sys.stdout.isatty():
        ask(model)


if __name__ == "__main__":
    with train.polite():
        main()
