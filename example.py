"""Swap a word, and see which head knows: word relationships in the terminal.

    python example.py                                   # four swaps, and every head
    python example.py "The hungry fox eats the mouse."  # your own sentence
    python example.py --words                           # the words it knows

A causal model settles a word in the row of the word before it: `the ▸ bird` is the row
that has read "the" and is about to say "bird".
"""

import math
import os
import shutil
import sys
import textwrap

import train
from train import Mistake, expect, head_names, next_words, read, relations_of

EXAMPLES = (  # a sentence up to the row that decides, and the swap
    ("the cat near the dogs", "cat → cats"),
    ("the hungry fox", "hungry → sleepy"),
    ("the cat and the dog", "and → or"),
    ("the dog eats the", "dog → horse"),
)


def in_colour():
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def heading(text):
    """A heading: bold in a terminal, plain in a pipe or with NO_COLOR set."""
    print(f"\n\033[1m{text}\033[0m" if in_colour() else f"\n{text}")


def columns():
    """The width to write in: the terminal's, 79 at most."""
    return max(30, min(79, shutil.get_terminal_size().columns))


def tell(text, indent=""):
    """A paragraph."""
    told = indent + " ".join(text.split())
    print(textwrap.fill(told, columns() - 1, subsequent_indent=indent))


def percent(chances, count=2):
    """The likeliest words of a distribution: "eats 79%, drinks 2%"."""
    likeliest = sorted(chances, key=chances.get, reverse=True)[:count]
    told = [(w if w != train.END else "(end)", chances[w]) for w in likeliest]
    return ", ".join(f"{word} {chance:.0%}" for word, chance in told if chance > 0.005)


def cell(weight):
    """One weight as two blocks, the darker the more: in colour, shades of blue."""
    shade = min(4, int(weight * 4 + 0.5))
    if in_colour():
        return f"\033[48;5;{(255, 153, 111, 69, 27)[shade]}m  \033[0m"
    return " ░▒▓█"[shade] * 2


def show_map(words, weights):
    """A head's map, (T, T): a row looks back at the words above and at itself.
    The future stays blank, unless an edited mask puts weight on it."""
    width = max(map(len, words))
    for row, word in enumerate(words):
        seen = max(row, weights[row].nonzero().max().item()) + 1
        cells = "".join(cell(weight) for weight in weights[row, :seen].tolist())
        print(f"    {word:>{width}} {cells}")


def swap_in(words, swap):
    """The words with a swap such as "cat → cats" made in its last possible place, and
    the place. Raises Mistake where it is none."""
    both = swap.lower().replace("->", "→").split("→")
    if [len(part.split()) for part in both] != [1, 1]:
        raise Mistake('a swap names two words: "cat → cats"')
    old, new = (part.strip() for part in both)
    if old not in words[1:]:
        raise Mistake(f'"{old}" is not in "{" ".join(words[1:])}"')
    read([new])
    source = len(words) - 1 - words[::-1].index(old)
    return [*words[:source], new, *words[source + 1 :]], source


def show_swap(model, words, swap, carriers=None):
    """Which head knows: a word is swapped, and each head alone hears of it.

    words: from <s> to the row that decides. carriers: {relation: head}, of the table.
    """
    swapped, source = swap_in(words, swap)
    names, old, new = head_names(model.config), words[source], swapped[source]
    heading(f"{' '.join(words[1:])} ▸ …   ({old} → {new})")
    said = [(f"it reads {old}", expect(model, words))]
    said.append((f"it reads {new}", expect(model, swapped)))
    pair = train.Pair(tuple(words), tuple(swapped), source)
    clean, other, patched = train.patch_each_head(model, [pair])
    shares = train.share_of(clean - other, clean - patched)
    head = max(range(len(shares)), key=shares.__getitem__)
    why = no_share(pair, shares)
    if not why:
        layer, place = train.pair_of(model.config, head)
        print(f"  {names[head]} looks back:")
        show_map(words, train.inspect_attention(model, words).weights[layer, place])
        given = model.head_outputs(train.as_ids(swapped))[layer][:, place]
        with model.patch_heads({(layer, place): given}):
            said.append((f"only {names[head]} hears {new}", expect(model, words)))
    wide = max(len(reader) for reader, _ in said)
    for reader, chances in said:
        print(f"  {reader:<{wide}}  says {percent(chances)}")
    if why:
        tell(why, "  ")
        return
    print(f"  So {names[head]} carries {shares[head]:.0%} of this decision.")
    for relation in relations_of_row(words):
        main = (carriers or {}).get(relation.name, head)
        if relation.source == source and main != head:
            tell(f"(Of {relation.name} as a whole {names[main]} carries most.)", "  ")
    truth, after = percent(next_words(words)), percent(next_words(swapped))
    tell(f"the truth: {truth}; after the swap: {after}", "  ")


def no_share(pair, shares):
    """Why there is no decision to share out: a sentence, or "" where there is one."""
    if not (next_words(pair.words) and next_words(pair.swapped)):
        return "Outside the language nothing tells what is right."
    if pair.source == len(pair.words) - 1:
        return "This row reads the swapped word itself: no head has to look back."
    if not math.isfinite(shares[0]):
        return """No decision to share out: each of the two needs a word of its own that
            may follow, and the model must tell them apart."""
    return ""


def relations_of_row(words):
    """The relations that settle a word that may come after `words`."""
    found = [relations_of((*words, word)) for word in next_words(words)]
    return sorted({r for some in found for r in some if r.row == len(words) - 1})


def show_sentence(model, text):
    """A sentence of the reader's: what each related word is looked at by, the next
    word, and where the sentence leaves the language."""
    words, weights = train.inspect_attention(model, text)
    names, flat = head_names(model.config), weights.flatten(0, 1)  # (heads, T, T)
    heading(" ".join(words[1:]))
    related = [*relations_of(words), *relations_of_row(words)]
    for relation in related:
        row, source = relation.row, relation.source
        after = words[row + 1] if row + 1 < len(words) else "…"
        head = flat[:, row, source].argmax().item()
        print(f"  {f'{words[row]} ▸ {after}':<18} {relation.name}")
        print(
            f"    {names[head]} looks at {words[source]}: {flat[head, row, source]:.0%}"
        )
    if related:
        print(f"  {names[head]}:")
        show_map(words, flat[head])
    print(f"  next, the model: {percent(expect(model, words), 3)}")
    if where := train.leaves(words):
        tell(f"Outside the language: {where}.", "  ")
    else:
        print(f"  next, the truth: {percent(next_words(words), 3)}")


def show_table(model, roles):
    """For each relation the head that carries it, beside two baselines."""
    names = head_names(model.config)
    heading(
        f"What the heads do: {min(r.count for r in roles)} or more swaps a relation"
    )
    tell(
        """looks: how often the head's largest weight is on the right word. carries: how
        much of the decision moves when this head alone hears of the swap. flips: how
        often the decision is the other one then. back: how often "always so many words
        back" would be right. blank: the best head of an untrained model."""
    )
    below = "\n   " if columns() < 66 else ""  # a narrow terminal gets two lines
    print(f"\n  {'relation':<19}{below} head   looks carries flips  back blank")
    for r in roles:
        share = r.carries[r.head]
        head = "none" if math.isnan(share) else "shared" if r.shared else names[r.head]
        told = " none" if math.isnan(share) else f"{round(share, 2) + 0.0:5.2f}"
        print(
            f"  {r.name:<19}{below} {head:<6}  {r.looks[r.head]:.2f}  {told}   "
            f"{r.flips[r.head]:.2f}  {r.offset_looks:.2f}  {r.untrained_looks:.2f}"
        )
    print()
    for head, name in enumerate(names):
        carried = [r.name for r in roles if r.head == head and not r.shared]
        parts = [
            r.name for r in roles if r.name not in carried and r.carries[head] > 0.2
        ]
        looks = [
            r.name for r in roles if r.looks[head] >= 0.95 and r.carries[head] < 0.05
        ]
        told = f"carries {', '.join(carried)}" if carried else "carries no relation"
        told += f"; a part of {', '.join(parts)}" if parts else ""
        told += f"; looks without carrying: {', '.join(looks)}" if looks else ""
        tell(f"{name} {told}.")
    show_removal(roles, names)


def show_removal(roles, names):
    """The lesson: removing a head can hurt most a relation that it does not carry."""
    misled = [
        (role.removal[head], role.name, head, share)
        for role in roles
        for head, share in enumerate(role.carries)
        if abs(share) < 0.1
    ]
    lost, name, head, share = max(misled, default=(0, "", 0, 0))
    if lost > 0.1:
        part = f"{lost:.0%}" if lost < 1 else "all, or more,"
        tell(
            f"""Removing a head proves less: with {names[head]} switched off (it gives
            its mean) {part} of the decision of {name} is lost, of which it
            carries {round(share, 2) + 0.0:.0%}. Gone is also whatever else it says."""
        )


def show_sentences(model, count=5, seed=0):
    """What the model says of its own accord."""
    heading("The model speaks (* is not in the language)")
    for words in train.generate_many(model, count, seed=seed):
        known = "" if train.in_language(words) else " *"
        print(f"  {' '.join(words[1:])}{train.END}{known}")


def show_words():
    """The vocabulary by kind."""
    for kind, members in train.KINDS.items():
        tell(f"{kind}: {', '.join(dict.fromkeys(members))}")


def ask(model):
    """The reader's own sentences and swaps, until an empty line or Ctrl-D."""
    words = None
    tell('Type a sentence, or its beginning; then swap a word of it, "cat → dog".')
    while True:
        try:
            line = input("\n> ").strip()
        except EOFError:
            return print()
        if not line:
            return None
        try:
            if "→" in line or "->" in line:
                if not words:
                    raise Mistake("type a sentence first")
                show_swap(model, first_row(words, line), line)
            else:
                show_sentence(model, line)
                words = read(line)
        except Mistake as mistake:
            print(f"  {mistake}")


def first_row(words, swap):
    """The words up to the first later row in which the swap changes what may follow."""
    swapped, source = swap_in(words, swap)
    for row in range(source + 2, len(words) + 1):
        own, other = next_words(words[:row]), next_words(swapped[:row])
        if own and other and set(own) - set(other) and set(other) - set(own):
            return words[:row]
    return words


def main():
    """`python example.py`: the examples and the table, or the reader's sentences."""
    parser = train.Parser(
        "Word relationships in the terminal: swap a word, see who knows."
    )
    parser.add_argument("sentence", nargs="*", help="a sentence, in quotes; or several")
    parser.add_argument(
        "--checkpoint", default=train.CHECKPOINT, help="the model to look into"
    )
    parser.add_argument("--words", action="store_true", help="list the vocabulary")
    flags = parser.parse_args()
    if flags.words:
        return show_words()
    for sentence in flags.sentence:
        read(sentence)  # a typo shows before a model is trained
    model, held_out = train.load(flags.checkpoint)
    tell(
        """Each row has read a word and is about to say the next: "the ▸ bird". It looks
        back, never ahead. Darker is more."""
    )
    for sentence in flags.sentence:
        show_sentence(model, sentence)
    if flags.sentence:
        return None
    roles = train.measure(model, held_out)
    carriers = {role.name: role.head for role in roles}
    for sentence, swap in EXAMPLES:
        show_swap(model, read(sentence), swap, carriers)
    show_table(model, roles)
    show_sentences(model)
    if sys.stdin.isatty() and sys.stdout.isatty():
        ask(model)
    return None


if __name__ == "__main__":
    with train.polite():
        main()
