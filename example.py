"""How words relate, in the terminal: where each head looks, and what it is good for.

    python example.py                                   # three sentences, all heads
    python example.py "The hungry fox eats the mouse."  # your own

A causal model settles a word in the row of the word before it: `the ▸ bird` is the row
that has read "the" and is about to say "bird". Everything printed here is measured on
the model in front of you, beside the same model before training.
"""

import os
import sys

from train import (
    CHECKPOINT,
    END,
    IDLE,
    RELATIONS,
    Mistake,
    Parser,
    expect,
    generate_many,
    head_names,
    in_language,
    inspect_attention,
    jobs,
    load,
    measure,
    next_words,
    polite,
    read,
    relations_of,
    untrained,
)

EXAMPLES = {
    "the cat chases the bird": "subject, verb, object",
    "the quick brown fox": "adjective and noun",
    "cats and dogs are friends": "conjunction",
    "the hungry cat near the sleepy dogs eats the fish": "all at once, over a distractor",
}


def heading(text):
    """A heading: bold in a terminal, plain in a pipe or with NO_COLOR set."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        text = f"\033[1m{text}\033[0m"
    print(f"\n{text}")


def percent(chances, count=3):
    """The likeliest words of a distribution: "eats 79%, drinks 2%"."""
    likeliest = sorted(chances, key=chances.get, reverse=True)[:count]
    return ", ".join(f"{w} {chances[w]:.0%}" for w in likeliest if chances[w] > 0.005)


def show_relations(model, sentence, about=""):
    """Each related pair of words: the strongest head, and what the model makes of it."""
    words, weights = inspect_attention(model, sentence)
    before = inspect_attention(untrained(model.config), sentence).weights.flatten(0, 1)
    weights, names = weights.flatten(0, 1), head_names(model.config)  # (heads, T, T)
    heading(" ".join(words[1:]) + (f"   ({about})" if about else ""))
    related = relations_of(words)
    if not related:
        print("  The grammar sees no related words here.")
    for relation in related:
        row, source = relation.row, relation.source
        after = words[row + 1] if row + 1 < len(words) else "…"
        cell = f"{words[row]} ▸ {after}"
        if row == source:
            print(
                f"  {cell:<20} {RELATIONS[relation.name]:<19} by itself: no looking back"
            )
            continue
        head = weights[:, row, source].argmax()
        print(
            f"  {cell:<20} {RELATIONS[relation.name]:<19} {names[head]} looks at "
            f"{words[source]}: {weights[head, row, source]:.2f} "
            f"(untrained {before[:, row, source].max():.2f})"
        )
    for row in sorted({relation.row for relation in related}):
        prefix = words[: row + 1]
        print(f"  {' '.join(prefix[1:])} …")
        print(f"      model: {percent(expect(model, prefix))}")
        print(f"      truth: {percent(next_words(tuple(prefix)))}")
    if END not in next_words(tuple(words)):
        going_on = next_words(tuple(words))
        print(
            f"  (not finished: next comes {percent(going_on)})"
            if going_on
            else "  (not a sentence of the language: take the maps with a grain of salt)"
        )


def show_sentences(model, count=5, seed=0):
    """What the model says of its own accord."""
    heading("The model speaks")
    for words in generate_many(model, count, seed=seed):
        known = "" if in_language(words) else "   (not in the language)"
        print(f"  {' '.join(words[1:])}{END}{known}")


def show_roles(model, held_out):
    """The table: what each relation has, and what each head does."""
    roles, names = measure(model, held_out), head_names(model.config)
    heading(
        f"The heads, on {len(held_out.sentences):,} sentences never seen in training"
    )
    print(
        "  How often does the head look at the right word, and what breaks without it?\n\n"
        "                             right   a fixed  un-      removing it  decided\n"
        "  relation            head   word    offset   trained  costs, nats  right → without"
    )
    for r in roles:
        print(
            f"  {RELATIONS[r.name]:<19} {names[r.head]}   {r.top1[r.head]:.2f}    "
            f"{r.offset_top1:.2f}     {r.untrained_top1:.2f}     "
            f"{r.cost[r.head]:5.2f}        {r.right:4.0%} → {r.right_without:.0%}"
        )
    print()
    for name, head_roles, costs in zip(
        names, jobs(roles), zip(*(r.cost for r in roles))
    ):
        looks = ", ".join(RELATIONS[r.name] for r in head_roles) or "no relation best"
        needed = roles[costs.index(max(costs))]
        need = (
            f"needed most for {RELATIONS[needed.name]} ({max(costs):.2f} nats)"
            if max(costs) >= IDLE
            else "idle: it can be removed at no cost"
        )
        print(f"  {name}  {looks}; {need}")


def ask(model):
    """The reader's own sentences, until an empty line or Ctrl-D."""
    while True:
        try:
            sentence = input("\nYour own sentence (Enter ends): ").strip()
        except EOFError:
            return print()
        if not sentence:
            return None
        try:
            show_relations(model, sentence)
        except Mistake as mistake:
            print(f"  {mistake}")


def main():
    """`python example.py`: the examples and the table, or the reader's sentences."""
    parser = Parser(__doc__)
    parser.add_argument("sentence", nargs="*", help="a sentence, in quotes; or several")
    parser.add_argument(
        "--checkpoint", default=CHECKPOINT, help="the model to look into"
    )
    flags = parser.parse_args()
    for sentence in flags.sentence:
        read(sentence)  # a typo shows before a model is trained
    model, held_out = load(flags.checkpoint)

    print(
        "Each row has read a word, and is about to say the next: the ▸ bird. It looks back,\n"
        'never ahead: "quick" can\'t see "fox", "fox" sees "quick".'
    )
    for sentence in flags.sentence:
        show_relations(model, sentence)
    if flags.sentence:
        return
    for sentence, about in EXAMPLES.items():
        show_relations(model, sentence, about)
    show_sentences(model)
    show_roles(model, held_out)
    if sys.stdin.isatty() and sys.stdout.isatty():
        ask(model)


if __name__ == "__main__":
    with polite():
        main()
