"""Swap a word, and see which head knows: word relationships in the terminal.

    python example.py                # four swaps, what every head does, and a prompt
    python example.py "the cat near the dog" "cat -> cats"   # your own, and a swap
    python example.py --words        # the words it knows

A causal model settles a word in the row of the word before it: `the ▸ bird` is the row
that has read "the" and is about to say "bird".
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
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while torch is imported it just ends

import train
from train import Mistake, expect, head_names, next_words, read, relations_of

EXAMPLES = (  # a sentence up to the row that decides, and the swap
    ("the cat near the dogs", "cat → cats"),
    ("the hungry fox", "hungry → sleepy"),
    ("the cat and the dog", "and → or"),
    ("the dog eats the", "dog → horse"),
)


def styled(text, style):
    """Text in a style of the terminal, as it is in a pipe or with NO_COLOR set."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\033[{style}m{text}\033[0m"


def columns():
    """The width to write in: the terminal's, 79 at most."""
    return max(30, min(79, shutil.get_terminal_size().columns))


def heading(text):
    print(f"\n{styled(textwrap.fill(text, columns() - 1), '1')}")


def tell(text, indent=""):
    """A paragraph."""
    text = indent + " ".join(text.split())
    print(textwrap.fill(text, columns() - 1, subsequent_indent=indent))


def percent(chances, count=2):
    """The first words of a distribution, the likeliest: "eats 79%, drinks 2%"."""
    shown = [f"{word} {p:.0%}" for word, p in chances.items() if p > 0.005][:count]
    return ", ".join(shown or ["(outside the language)"]).replace(train.END, "(end)")


def show_map(words, weights):
    """A head's map, (T, T): a row looks back at the words above and at itself. The more
    weight, the fuller the cell. Over a column stand its word's first two letters."""
    width = max(map(len, words))
    print(f"    {'':>{width}} {' '.join(f'{word:<2.2}' for word in words)}")
    for word, row in zip(words, weights.tolist()):
        cells = " ".join(2 * " ░▒▓█"[round(4 * weight)] for weight in row)
        print(f"    {word:>{width}} {styled(cells.rstrip(), '38;5;69')}")  # blue


def swap_in(words, swap):
    """The Pair of `words` and the same with a swap, "cat → cats", in its last place, up
    to the row that it changes most, if possible a later one. Raises Mistake."""
    parts = train.typed(swap.replace("→", " → "))
    if len(parts) != 3 or parts[1] != "→" or parts[2] in (train.BEGIN, ""):
        raise Mistake('a swap names two words: "cat → cats"')
    old, _, new = parts
    if old not in words[1:]:
        raise Mistake(f'"{old}" is not in your sentence: type one with it first')
    source = len(words) - 1 - words[::-1].index(old)
    swapped = read([*words[:source], new, *words[source + 1 :]])

    def changed(end):
        own, other = next_words(words[:end]), next_words(swapped[:end])
        differ = own.keys() ^ other.keys() if own and other else ()
        chance = sum((own | other)[word] for word in differ)
        return chance > 0, end > source + 1, chance

    end = max(range(len(words), source, -1), key=changed)
    return train.Pair(tuple(words[:end]), tuple(swapped[:end]), source)


def carrier(model, pair):
    """The head that carries most of a pair's decision, flat from 0, and its share; nan
    where the swap doesn't turn the odds twofold, or the likeliest word can't follow."""
    clean, other, patched = train.patch_each_head(model, [pair])
    shares = train.shares_of(clean, other, patched)
    head = max(range(len(shares)), key=shares.__getitem__)
    sane = all(next(iter(expect(model, w))) in next_words(w) for w in pair[:2])
    return head, shares[head] if sane and clean - other > math.log(2) else math.nan


def show_swap(model, pair):
    """Which head knows: a word is swapped, and one head alone hears of it."""
    words, swapped, source = pair
    old, new = words[source], swapped[source]
    heading(f"{' '.join(words[1:])} ▸ …   ({old} → {new})")
    said = {f"it reads {old}": expect(model, words)}
    said[f"it reads {new}"] = expect(model, swapped)
    head, share = carrier(model, pair)
    if source == len(words) - 1:
        text = (
            "This row reads the swapped word itself: no head has to look back for it."
        )
    elif math.isnan(share):
        text = """No decision to share out: both may go on with the same words, one has
            left the language, or the model hardly tells them apart."""
    else:
        layer, place = train.heads_of(model.config)[head]
        name = head_names(model.config)[head]
        text = f"So {name} carries {share:.0%} of this decision."
        print(f"  {name} looks back:")
        show_map(words, train.inspect_attention(model, words).weights[layer, place])
        given = model.head_outputs(train.as_ids(swapped))[layer][:, place]
        with model.patch_heads({(layer, place): given}):
            said[f"only {name} hears {new}"] = expect(model, words)
    for reader, chances in said.items():
        print(f"  {reader:<{max(map(len, said))}}  says {percent(chances)}")
    tell(text, "  ")
    truth, after = (percent(next_words(w), 3) for w in (words, swapped))
    tell(f"the truth: {truth}; after the swap: {after}", "  ")


def show_sentence(model, words):
    """A sentence of the reader's: for each relation in it which head carries it, and
    which looks; the next word, and where the sentence leaves the language."""
    maps = train.inspect_attention(model, words).weights.flatten(0, 1)  # (heads, T, T)
    names, main = head_names(model.config), None
    heading(" ".join(words[1:]))
    # Its relations, and those that settle a word that may come next.
    longer = [words, *((*words, word) for word in next_words(words))]
    found = {relation for some in longer for relation in relations_of(some)}
    for name, row, source in sorted(found, key=lambda r: (r.row, r.name)):
        pair = train.minimal_pair(tuple(words[: row + 1]), source, random.Random(0))
        if not pair:  # an edited language
            continue
        head, share = carrier(model, pair)
        looks = maps[:, row, source]  # (heads,)
        decides = f"{words[row]} ▸ {(*words, '…')[row + 1]}"
        print(f"  {decides:<18} {name}")
        text = f"{names[head]} carries {share:.0%}, and looks there {looks[head]:.0%}"
        if math.isnan(share):
            text = "the model hardly tells them apart, or says what can't follow"
        elif (most := looks.argmax().item()) != head:
            text += f"; {names[most]} looks {looks[most]:.0%}"
        tell(f"{words[source]} → {pair.swapped[source]}: {text}", "    ")
        if math.isfinite(share):
            main = head, name  # the last one's map is shown
    if main:
        head, name = main
        tell(f"{names[head]}, which carries more of {name} here than others:", "  ")
        show_map(words, maps[head])
    if not found:
        tell("It has none of the measured relations; try a swap of your own.", "  ")
    print(f"  next, the model: {percent(expect(model, words), 3)}")
    if where := train.leaves(words):
        tell(f"Outside the language: {where}.", "  ")
    else:
        print(f"  next, the truth: {percent(next_words(words), 3)}")


def show_table(roles, names):
    """For each relation the head that carries it, beside two baselines."""
    least = min(r.count for r in roles)
    heading(f"What the heads do: {least} or more swaps a relation")
    tell(
        """looks: how often the head's largest weight is on the right word; an adjective
        settles what its noun does. carries: how much of the decision moves when this
        head alone hears of the swap. flips: how often the decision is the other one
        then. back: how often "always so many words back" would be right. blank: the best
        head of an untrained model."""
    )
    below = "\n   " if columns() < 66 else ""  # a narrow terminal gets two lines
    print(f"\n  {'relation':<19}{below} head   looks carries flips  back blank")
    for r in roles:
        head = "shared" if r.shared else names[r.head]
        numbers = (
            f"{r.looks[r.head]:.2f} {r.carries[r.head]:z6.2f}   {r.flips[r.head]:.2f}  "
            f"{r.offset_looks:.2f}  {r.untrained_looks:.2f}"
        )
        line = f"{head:<6}  {numbers}" if r.known else "the model does not know it"
        print(f"  {r.name:<19}{below} {line}")


def show_jobs(roles, names):
    """For each head the relations that it carries, and those that it only looks at."""
    print()
    for head, name in enumerate(names):
        jobs = {"carries": [], "a part of": [], "looks without carrying": []}
        for r in roles:
            if r.head == head and not r.shared:
                jobs["carries"].append(r.name)
            elif r.carries[head] > 0.2:
                jobs["a part of"].append(r.name)
            elif r.looks[head] >= 0.95 and r.carries[head] < 0.05:
                jobs["looks without carrying"].append(r.name)
        parts = [f"{what} {', '.join(which)}" for what, which in jobs.items() if which]
        tell(f"{name}: {'; '.join(parts) or 'carries no relation'}.")


def show_removal(roles, names):
    """The lesson: removing a head can hurt most a relation that it does not carry."""
    misled = [
        (role.removal[head], role.carries[head], role.name, name)
        for role in roles
        for head, name in enumerate(names)
        if abs(role.carries[head]) < 0.1 < role.removal[head]
    ]
    if misled:
        lost, share, relation, name = max(misled)
        tell(
            f"""Removing a head asks another question. The largest case: with {name}
            switched off (it gives its mean) {lost:.0%} of the decision of {relation} is
            lost, of which it carries {share:z.0%}. Whatever else it says is gone too."""
        )


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
                    words = read(line, model.config.block_size)
                    show_sentence(model, words)
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
        rules = ", ".join(f"{word} {verb}" for word, verb in train.ADJECTIVES.items())
        tell(f"what an adjective settles: {rules}")
        foods = (f"{a.forms[0]} {' or '.join(a.foods)}" for a in train.ANIMALS)
        tell(f"what an animal eats: {', '.join(foods)}")
        heading("Ten random sentences: an animal does or is something")
        for sentence in train.sample(10, None):
            tell(" ".join(sentence.words[1:]))
        return
    lines = [line.replace("->", "→") for line in flags.sentence]
    said = [line for line in lines if "→" not in line]
    # A typo shows before a model is trained.
    words = read(" ".join(said)) if said else []
    pairs = [swap_in(words, line) for line in lines if "→" in line]
    model, held_out = train.load(flags.checkpoint)
    tell(
        """In a map a row has read a word, and is about to say the next one. It looks
        back, at the words named above, never ahead. The fuller a cell, the more it
        looks there."""
    )
    if words:
        show_sentence(model, words)
        for pair in pairs:
            show_swap(model, pair)
        return
    for sentence, swap in EXAMPLES:
        with suppress(Mistake):  # an edited language may lack its words
            show_swap(model, swap_in(read(sentence), swap))
    roles, names = train.measure(model, held_out), head_names(model.config)
    known = [role for role in roles if role.known]
    show_table(roles, names)
    if model.config.n_layer > 1:
        tell("Later layers hear of a swap through earlier ones: their shares overlap.")
    show_jobs(known, names)
    show_removal(known, names)
    heading("The model speaks (* is not in the language)")
    for words in train.generate_many(model, 5, seed=0):
        mark = "" if train.in_language(words) else " *"
        print(f"  {' '.join(words[1:])}{train.END}{mark}")
    if sys.stdin.isatty() and sys.stdout.isatty():
        ask(model)


if __name__ == "__main__":
    with train.polite():
        main()
