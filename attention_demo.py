"""Attention in pictures: from random numbers to heads that each carry something.

    python attention_demo.py              # the lesson: explains, writes figures/
    python attention_demo.py --show       # and opens the pictures, on one page
    python attention_demo.py --explore    # only the page to play in
    python attention_demo.py --format svg

Five steps. One head on random numbers, matrix by matrix. The same computation on a real
sentence, by hand. All heads, beside the model untrained. The heads that serve syntax and
the heads that serve meaning, apart. And how heads come to be, in a short training.

Every name of a head and every number is measured on the model at hand.
"""

import base64
import inspect
import json
import math
import os
import re
import textwrap
import webbrowser
from dataclasses import asdict
from pathlib import Path

import torch

import train
import utils
from model import causal_mask

# Step 1 has the dimensions of the base model of Vaswani et al. 2017. Change them!
D_MODEL, N_HEAD, TOKENS = 512, 8, 128
D_K = D_MODEL // N_HEAD  # features for each head

EXAMPLES = (  # a sentence, and a swap of one of its words that shows something
    ("the cat near the dogs chases the bird", "cat", "cats"),
    ("the quick brown fox chases the ball", "quick", "sleepy"),
    ("the cat and the dog are friends", "and", "or"),
    ("the hungry cat near the sleepy dogs eats the fish", "hungry", "thirsty"),
    ("the dog eats the bone", "dog", "horse"),
    ("this sheep sleeps", "this", "these"),
)
TEMPLATE = Path(__file__).parent / "assets" / "explorer.html"


# ------------------------------------------------------------------------ telling


def tell(text):
    """A paragraph for the reader."""
    print(textwrap.fill(" ".join(text.split()), 79), end="\n\n")


def heading(step, text):
    print(f"{step}. {text}\n{'=' * (len(text) + 3)}")


class Album:
    """Writes the figures of the lesson, and says what each of them shows."""

    def __init__(self, folder, ending):
        self.folder, self.ending, self.shown = Path(folder), ending, []

    def add(self, name, figure, look):
        path = utils.save(figure, self.folder / f"{name}.{self.ending}")
        self.tell(path, look)

    def tell(self, path, look):
        self.shown.append(f'<p>{look}</p><object data="{path.name}"></object>')
        print(textwrap.fill(f"{path}: {look}", 79, subsequent_indent="  "))

    def show(self):
        """All pictures below each other on one page, in the browser."""
        page = self.folder / "pictures.html"
        head = (
            "<!doctype html><meta charset=utf-8><title>Attention in pictures</title>\n"
            "<style>body { font: 18px sans-serif } object { max-width: 100% }</style>\n"
        )
        train.write(page, (head + "\n".join(self.shown)).encode())
        open_page(page)


def percent(share):
    return "none" if math.isnan(share) else f"{round(share, 2) + 0.0:.0%}"


def finding(role, names):
    """What a head does for a relation, in one sentence, as measured."""
    if math.isnan(role.carries[role.head]):
        return f"{role.name}: no head carries anything of it"
    if role.shared:
        return f"{role.name}: no head carries half of it, they share it"
    look, share = role.looks[role.head], role.carries[role.head]
    return (
        f"{names[role.head]} carries {percent(share)} of {role.name}, and looks at the "
        f"right word in {percent(look)}"
    )


def job(roles, head):
    """The relations that a head carries, a line each: "subject → verb 98%"."""
    carried = [r for r in roles if r.head == head and not r.shared]
    told = [f"{r.name} {percent(r.carries[head])}" for r in carried]
    return "\n".join(told) or "carries nothing alone"


def titles(roles, names):
    return [f"{name}\n{job(roles, head)}" for head, name in enumerate(names)]


def cells(words, names):
    """Where these relations stand in a map: (row, column) pairs."""
    relations = train.relations_of(words)
    return [(r.row, r.source) for r in relations if r.name in names]


def best_example(names):
    """The example sentence with the most of these relations, as words."""
    sentences = [train.read(text) for text, *_ in EXAMPLES]
    return max(sentences, key=lambda words: len(cells(words, names)))


def headline(roles, words, names):
    """The finding about the relation of this sentence that one head carries most of."""
    present = {r.name for r in train.relations_of(words)}
    seen = [r for r in roles if r.name in present] or roles
    if not seen:
        return "no relation was measured"
    best = max(seen, key=lambda r: -1 if r.shared else min(r.carries[r.head], 1))
    return finding(best, names)


# ------------------------------------------------------------------- steps 1 and 2


def one_head(x, query, key, value):
    """A head, line by line: x (T, n_features); returns every matrix by its name."""
    q, k, v = query(x), key(x), value(x)  # (T, d_k)
    scores = q @ k.T / math.sqrt(q.size(1))  # (T, T)
    scores = scores.masked_fill(~causal_mask(len(x)), -math.inf)
    weights = scores.exp() / scores.exp().sum(dim=1, keepdim=True)  # softmax
    output = weights @ v  # (T, d_k)
    return {
        "q": q, "k": k, "v": v, "scores": scores, "weights": weights, "output": output
    }  # fmt: skip


STAGES = (
    ("q", "query", "What each word looks for."),
    ("k", "key", "What it can be found by."),
    ("scores", "scores: q kᵀ / √d_k", "How well the two match."),
    ("weights", "weights: softmax", "Each row is shared out: it sums to 1."),
    ("v", "value", "What each word hands over."),
    ("output", "output: weights × value", "What the head passes on."),
)


def draw_head(m, title, words=(), last=""):
    """The six matrices of one head; with words, these name the rows and columns."""
    figure = utils.new_figure(utils.WIDTH, 6.8)
    for ax, (name, stage, caption) in zip(figure.subplots(2, 3).flat, STAGES):
        square, labels = name in ("scores", "weights"), None
        if words:
            features = range(1, m[name].size(1) + 1)
            columns = words if square else [i if i % 4 == 0 else "" for i in features]
            rows = words if name in ("k", "v") else utils.row_labels(words, last)
            labels = rows, columns
        blank = ~causal_mask(len(m[name])) if square else None
        utils.matrix(
            m[name], ax=ax, title=stage, caption=caption, blank=blank, labels=labels
        )
    utils.heading(figure, title)
    return figure


def toy_head():
    """One head on random tokens."""
    random = torch.Generator()  # of its own: the caller's random state stays
    x = torch.randn(TOKENS, D_MODEL, generator=random)
    w_q, w_k, w_v = torch.randn(3, D_MODEL, D_K, generator=random) / math.sqrt(D_MODEL)
    return one_head(x, lambda x: x @ w_q, lambda x: x @ w_k, lambda x: x @ w_v)


def effective(weights):
    """How many tokens a row looks at, in effect: the mean of exp(entropy)."""
    return torch.special.entr(weights).sum(-1).exp().mean().item()


def draw_scale(weights, unscaled):
    with_it, without = effective(weights), effective(unscaled)
    figure, blank = utils.new_figure(utils.WIDTH, 4.4), ~causal_mask(TOKENS)
    for ax, values, title, seen in zip(
        figure.subplots(1, 2),
        (weights, unscaled),
        ("with / √d_k", "without the scale"),
        (with_it, without),
    ):
        caption = f"A row looks at {seen:.0f} tokens, in effect."
        utils.matrix(
            values, ax=ax, title=title, caption=caption, blank=blank, limits=(0, 0.5)
        )
    title = f"With √d_k a row sees {with_it:.0f} tokens, without it {without:.0f}"
    utils.heading(figure, f"{title}, in effect")
    return figure


def step_1(album):
    heading(1, "One head, from numbers to attention")
    tell(
        f"""A GPT reads {D_MODEL} features of each token, and splits them among {N_HEAD}
        heads, {D_K} for each. Here is one head at work on {TOKENS} random tokens. It has
        learned nothing yet. The whole computation is five lines, as they run here:"""
    )
    lines = inspect.getsource(one_head).splitlines()
    print("\n".join(line for line in lines if " = " in line), end="\n\n")
    m = toy_head()
    title = f"One head without training, matrix by matrix: {TOKENS} tokens"
    album.add("1-one-head", draw_head(m, title), "the six matrices, in order.")
    raw = m["scores"] * math.sqrt(D_K)
    figure = draw_scale(m["weights"], raw.softmax(dim=1))
    album.add("1-why-the-scale", figure, "what the square root is for.")
    print()
    spread = raw[causal_mask(TOKENS)].std().item()
    tell(
        f"""Why √d_k? A score adds up {D_K} products, so scores spread over ±{spread:.0f},
        and softmax of such numbers is almost all or nothing. Divided by √{D_K} =
        {math.sqrt(D_K):g} every token keeps a say."""
    )


@torch.no_grad()
def by_hand(model, words, head):
    """One trained head of the first layer, counted from 0, from its own weights."""
    x = model.token(train.as_ids(words)[0]) + model.position.weight[: len(words)]
    size = model.config.n_embd // model.config.n_head
    mine = slice(head * size, (head + 1) * size)  # this head's rows of each matrix
    part = model.blocks[0].attention
    return one_head(
        model.blocks[0].norm_1(x),
        *(
            lambda x, f=f: x @ f.weight[mine].T + f.bias[mine]
            for f in (part.query, part.key, part.value)
        ),
    )


def step_2(album, model, roles):
    heading(2, "The same with trained numbers, by hand")
    words = train.read(EXAMPLES[0][0])
    carriers = {r.name: r.head for r in roles if r.head < model.config.n_head}
    related = [r for r in train.relations_of(words) if r.name in carriers]
    relation, row, source = related[0] if related else ("", 5, 0)
    head, words, after = carriers.get(relation, 0), words[: row + 1], words[row + 1]
    m, name = by_hand(model, words, head), train.head_names(model.config)[head]
    weights = model.attention_maps(train.as_ids(words))[0][0, head]
    error = (m["weights"] - weights).abs().max().item()
    share = percent(m["weights"][-1, source].item())
    model_too = "and so does the model" if error < 1e-4 else "the model does not"
    title = f"{name} by hand: “{words[-1]}” takes {share} from “{words[source]}”"
    figure = draw_head(m, f"{title}, {model_too}", words, after)
    look = f"the same five lines; the model's own weights differ by {error:.0e}."
    album.add("2-by-hand", figure, look)
    print()


# -------------------------------------------------------------------- steps 3 and 4


def step_3(album, model, roles):
    heading(3, "All heads, after training and before")
    words = best_example(train.RELATIONS)
    names, shape = train.head_names(model.config), model.config
    maps = [
        train.inspect_attention(m, words).weights
        for m in (model, train.untrained(shape))
    ]
    bands = [
        f"{when}, layer {layer + 1}" if shape.n_layer > 1 else when
        for when in ("trained", "untrained")
        for layer in range(shape.n_layer)
    ]
    mark = []
    for head in range(len(names)):
        mine = [r.name for r in roles if r.head == head and not r.shared]
        mark.append(cells(words, mine))
    figure = utils.head_grid(
        torch.cat(maps),
        words,
        titles(roles, names) + names,
        bands=bands,
        mark=mark + [()] * len(names),
        title=f"Training gives heads jobs: {headline(roles, words, names)}",
    )
    album.add("3-heads", figure, "outlined is where a head's own relation stands.")
    print()


def step_4(album, model, roles):
    heading(4, "Syntax and meaning, apart")
    names = train.head_names(model.config)
    for kind, relations in (
        ("syntactic", train.SYNTACTIC),
        ("semantic", train.SEMANTIC),
    ):
        some = [r for r in roles if r.name in relations]
        if not some:
            continue
        words = best_example(relations)
        flat = train.inspect_attention(model, words).weights.flatten(0, 1)
        heads = list(dict.fromkeys(r.head for r in some))
        mark = [cells(words, [r.name for r in some if r.head == h]) for h in heads]
        figure = utils.head_grid(
            flat[heads][None],
            words,
            [f"{names[h]}\n{job(some, h)}" for h in heads],
            mark=mark,
            title=f"{kind.capitalize()}: {headline(some, words, names)}",
        )
        album.add(f"4-{kind}", figure, f"the heads that serve {', '.join(relations)}.")
    looks = torch.tensor([role.looks for role in roles]).T  # (heads, relations)
    carries = torch.tensor([role.carries for role in roles]).T
    apart = ((looks - carries).abs() >= 0.5).sum().item()
    title = "Looking and carrying agree everywhere"
    if apart:
        where = f"{apart} outlined cells" if apart > 1 else "the outlined cell"
        title = f"Looking is not yet carrying: the two disagree in {where}"
    figure = utils.relation_matrices(
        looks, carries, [r.name for r in roles], names, title
    )
    album.add("4-matrices", figure, "each head and each relation.")
    print()
    tell(
        """What a head carries: the share of the way that the decision moves when this
        head alone gives its output from a sentence with one word swapped. Above 100%
        it moves further than the whole swapped sentence would."""
    )
    for role in roles:
        print(f"  {finding(role, names)}.")
    print()


# ------------------------------------------------------------------------- step 5


def step_5(album, model):
    heading(5, "How heads come to be")
    words = train.read(EXAMPLES[0][0])
    marked, moments, captions = cells(words, train.RELATIONS), [], []

    def watch(model, moment):
        moments.append(train.inspect_attention(model, words).weights.flatten(0, 1))
        captions.append(f"step {moment.step}: {moment.against_floor}")

    settings = train.TrainConfig(steps=120, batch_size=64, eval_every=12)
    train.train(model.config, settings, watch)
    # Of each outlined cell, the head that came to look at it most.
    found = [(row, at, int(moments[-1][:, row, at].argmax())) for row, at in marked]
    heads, names = sorted({h for *_, h in found}) or [0], train.head_names(model.config)
    path = utils.film(
        torch.stack(moments)[:, heads],
        words,
        captions,
        album.folder / "5-film.gif",
        names=[names[head] for head in heads],
        mark=marked,
        title=" ".join(words[1:]),
    )
    album.tell(path, "heads come to look at the outlined cells.")
    for row, at, head in found:
        first, last = (m[head, row, at].item() for m in (moments[0], moments[-1]))
        where = f'"{words[row]}" looks at "{words[at]}"'
        print(f"  {names[head]}: {where}, first {first:.0%}, in the end {last:.0%}.")
    print()


# ------------------------------------------------------------------------ the page


def page_data(model, held_out, roles):
    """What the page carries: the model, the language, and what its heads do."""
    config = model.config
    blank = train.untrained(config)
    shapes = [[name, list(t.shape)] for name, t in model.state_dict().items()]
    return {
        "config": asdict(config),
        "heads": train.head_names(config),
        "vocabulary": train.VOCABULARY,
        "kinds": {kind: list(words) for kind, words in train.KINDS.items()},
        "shapes": shapes,
        "trained": {"weights": packed(model), "means": means(model, held_out)},
        "untrained": {**packed_small(blank), "means": means(blank, held_out)},
        "machine": machine(),
        "roles": [
            {
                **{name: rounded(value, 4) for name, value in role._asdict().items()},
                "shared": role.shared,
            }
            for role in roles
        ],
        "examples": [
            {"text": text, "at": text.split().index(word) + 1, "word": other}
            for text, word, other in EXAMPLES
        ],
    }


def packed(model):
    """All weights in the order of the state dict, as base64 of little-endian float32."""
    flat = torch.cat([t.detach().cpu().flatten() for t in model.state_dict().values()])
    return base64.b64encode(flat.float().numpy().astype("<f4").tobytes()).decode()


def packed_small(model):
    """The same in half the space: 16-bit integers, and what each tensor's are worth."""
    tensors = [t.detach().cpu().flatten() for t in model.state_dict().values()]
    scales = [(t.abs().max().item() or 1.0) / 32767 for t in tensors]
    whole = torch.cat([(t / s).round() for t, s in zip(tensors, scales)])
    text = base64.b64encode(whole.numpy().astype("<i2").tobytes()).decode()
    return {"weights": text, "scales": [float(f"{s:.8g}") for s in scales]}


def means(model, held_out):
    """What a head gives that is switched off: [layer][head][feature]."""
    return [
        rounded(mean[0, :, 0].tolist(), 9)
        for mean in train.mean_outputs(model, held_out)
    ]


def rounded(value, digits):
    """Numbers in lists, rounded; what is not a number is None."""
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value


def machine():
    """The language as a table; states with the same future are one.

    A state is a list of options [chance, words, next, role, settled]: equal options of
    several words are one; next is a state, or -1 at the end; chance, words, role and
    settled are places in lists, so that nothing stands twice.
    """
    lists = {n: {} for n in ("chances", "words", "roles", "settled", "states")}

    def place(name, item):
        return lists[name].setdefault(item, len(lists[name]))

    numbers = {None: -1}  # of the states that are done

    def number(state):
        if state not in numbers:
            words = {}
            for option in train.options(state).values():
                rest = (
                    place("chances", float(f"{option.chance:.12g}")),
                    number(option.state),
                    place("roles", option.role),
                    place("settled", option.settled),
                )
                words.setdefault(rest, []).append(train.IDS[option.word])
            told = [
                (rest[0], place("words", tuple(sorted(ids))), *rest[1:])
                for rest, ids in words.items()
            ]
            numbers[state] = place("states", tuple(sorted(told)))
        return numbers[state]

    start = number(train.START)
    return {"start": start, **{name: list(items) for name, items in lists.items()}}


def write_page(model, held_out, path, roles=None):
    """Write the page for a model: the template with the JSON block, found by its id,
    replaced. Raises Mistake where the template has none, OSError where path can't be
    written."""
    roles = roles or train.measure(model, held_out)
    block = json.dumps(page_data(model, held_out, roles), separators=(",", ":"))
    block = block.replace("</", "<\\/")
    page, count = re.subn(
        r'(<script type="application/json" id="toy-gpt">).*?(</script>)',
        lambda found: found[1] + block + found[2],
        TEMPLATE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise train.Mistake(f"{TEMPLATE} has no place for the model's data")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    train.write(path, page.encode())


def open_page(path):
    """Open a page in the browser, or say how."""
    try:
        opened = webbrowser.open(Path(path).resolve().as_uri())
    except webbrowser.Error:
        opened = False
    print(f"{path} opens in your browser." if opened else f"Open {path} in a browser.")


def main():
    """`python attention_demo.py`: the five steps, and the page."""
    parser = train.Parser("Attention in pictures, step by step; writes the page.")
    parser.add_argument("--checkpoint", default=train.CHECKPOINT, help="the model")
    parser.add_argument("--format", default="png", choices=("png", "svg", "pdf"))
    parser.add_argument("--folder", default="figures", help="where the files go")
    parser.add_argument("--show", action="store_true", help="open the pictures too")
    parser.add_argument("--explore", action="store_true", help="open the page, only")
    flags = parser.parse_args()
    model, held_out = train.load(flags.checkpoint)
    page = os.path.join(flags.folder, "explorer.html")
    roles = train.measure(model, held_out)
    if not flags.explore:
        album = Album(flags.folder, flags.format)
        step_1(album)
        step_2(album, model, roles)
        step_3(album, model, roles)
        step_4(album, model, roles)
        step_5(album, model)
        if flags.show:
            album.show()
    write_page(model, held_out, page, roles)
    print(f"{page}: the model alive; it opens by a double click.")
    if flags.explore:
        open_page(page)


if __name__ == "__main__":
    with train.polite():
        main()
