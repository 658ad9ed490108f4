"""Attention in pictures: from random numbers to heads that each carry something.

    python attention_demo.py              # the lesson: explains, writes figures/
    python attention_demo.py --show       # and opens the pictures, on one page
    python attention_demo.py --explore    # only the page to play in

Five steps: one head on random numbers, matrix by matrix; the same on a real sentence, by
hand; all heads, trained and untrained; syntax and meaning, apart; how heads come to be.
"""

import base64
import inspect
import json
import math
import signal
import textwrap
from collections import defaultdict, namedtuple
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends torch's import quietly

import numpy as np
import torch
from torch.nn import functional as F

import train
import utils
from model import causal_mask, looking

# Step 1 has the dimensions of the base model of Vaswani et al. 2017. Change them!
D_MODEL, N_HEAD, TOKENS = 512, 8, 128
D_K = D_MODEL // N_HEAD  # features for each head

EXAMPLES = (  # a sentence, and a swap of one of its words that shows something
    ("the cat near the dogs chases the bird", "cat", "cats"),
    ("the hungry brown fox eats the mouse", "hungry", "sleepy"),
    ("the cat and the dog are friends", "and", "or"),
    ("the hungry cat near the sleepy dogs eats the fish", "hungry", "thirsty"),
    ("the dog eats the bone", "dog", "horse"),
    ("this nice sheep near the cats eats the hay", "this", "these"),
)
TEMPLATE = Path(__file__).parent / "assets" / "explorer.html"
OPENING = '<script type="application/json" id="toy-gpt">'  # of the data in it

# ------------------------------------------------------------------------ telling


def tell(text):
    """A paragraph for the reader."""
    print(f"\n{textwrap.fill(' '.join(text.split()), 79)}")


def heading(step, text):
    print(f"\n{step}. {text}\n{'=' * (len(text) + 3)}")


class Album:
    """Writes the figures of the lesson, and says what each of them shows."""

    def __init__(self, folder, ending):
        self.folder, self.ending, self.shown = Path(folder), ending, []

    def add(self, name, figure, caption):
        path = utils.save(figure, self.folder / f"{name}.{self.ending}")
        self.tell(path, figure.get_suptitle(), caption)

    def tell(self, path, title, caption):
        self.shown.append((path.name, title, caption))
        print(textwrap.fill(f"{path}: {caption}", 79, subsequent_indent="  "))

    def show(self):
        """All pictures below each other on one page, in the browser."""
        path = self.folder / "pictures.html"
        page = utils.page_of(self.shown, "Toy GPT: attention in pictures")
        train.write(path, page.encode())
        utils.open_page(path)


def finding(role, names):
    """What a head does for a relation, in one sentence, as measured."""
    if not role.known:
        return f"{role.name}: the model does not know it"
    if role.shared:
        return f"{role.name}: no head carries half of it, they share it"
    carries = f"{names[role.head]} carries {role.carries[role.head]:.0%} of {role.name}"
    return f"{carries}, and looks right {role.looks[role.head]:.0%} of the time"


def cells(words, roles):
    """Where the relations of these roles stand in a map: (row, column) pairs."""
    names = [role.name for role in roles]
    return [(r.row, r.source) for r in train.relations_of(words) if r.name in names]


def carried_by(head, roles, words):
    """The relations of a sentence that a head carries at least half of."""
    here = [role for role in roles if role.known and cells(words, [role])]
    return [role for role in here if role.carries[head] >= 0.5]


def examples(roles):
    """Sentences with relations of these roles, as words: examples, else sampled ones."""
    typed = [[train.BEGIN, *text.split()] for text, *_ in EXAMPLES]
    known = [w for w in typed if train.IDS.keys() >= {*w} and train.in_language(w)]
    sampled = [sentence.words[:-1] for sentence in train.sample(100, "examples")]
    sampled.sort(key=lambda words: -len(cells(words, roles)))
    return [words for words in known if cells(words, roles)] or sampled


def best_example(roles):
    """The sentence with the most relations of these roles, and of the most heads."""

    def richness(words):
        heads = {role.head for role in roles if cells(words, [role])}
        return len(heads) + len(cells(words, roles))

    return max(examples(roles), key=richness)


def headline(roles, words, names):
    """The finding about the relation of this sentence that one head carries most of."""
    seen = [role for role in roles if cells(words, [role])] or roles
    best = max(seen, key=lambda r: -1 if r.shared else min(r.carries[r.head], 1))
    return finding(best, names)


def draw_heads(maps, words, heads, roles, names, kind="", bands=None):
    """A figure of maps (rows, panels, T, T): of these heads, each with what it carries in
    the sentence, the cells of that outlined; after them of untrained heads."""
    titles, mark = [], []
    for head in heads:
        own = carried_by(head, roles, words)
        lines = [f"{role.name} {role.carries[head]:.0%}" for role in own]
        lines = lines or ["under half of each known here"]
        titles.append("\n".join([names[head], *lines]))
        mark.append(cells(words, own))
    title = kind + headline(roles, words, names)
    if any(mark):
        title += "\nOutlined: the word that settles the next one"
    rest = maps.size(0) * maps.size(1) - len(heads)
    titles, mark = titles + names[:rest], mark + [()] * rest
    return utils.head_grid(maps, words, titles, bands=bands, mark=mark, title=title)


# ------------------------------------------------------------------- steps 1 and 2

# q, k, v and output are (T, d_k); scores, -inf where masked, and weights (T, T).
Head = namedtuple("Head", "q k scores weights v output")


def one_head(q, k, v):
    """A head line by line, from its queries, keys and values: (T, d_k) each."""
    scores = q @ k.T / math.sqrt(q.size(1))  # (T, T)
    scores = scores + torch.where(causal_mask(len(q)), 0.0, -math.inf)  # (T, T)
    weights = scores.exp() / scores.exp().sum(dim=1, keepdim=True)  # (T, T)
    output = weights @ v  # (T, d_k)
    return Head(q, k, scores, weights, v, output)


def toy_head():
    """One head on random tokens."""
    random = torch.Generator()  # of its own, always with the same seed
    x = torch.randn(TOKENS, D_MODEL, generator=random)
    w_q, w_k, w_v = torch.randn(3, D_MODEL, D_K, generator=random) / math.sqrt(D_MODEL)
    q, k, v = x @ w_q, x @ w_k, x @ w_v  # (T, d_k)
    return one_head(q, k, v)


def step_1(album):
    heading(1, "One head, from numbers to attention")
    tell(
        f"""A GPT larger than ours reads {D_MODEL} features of each token; each of its
        {N_HEAD} heads makes {D_K} from them all. Here is one such head, untrained, on {TOKENS}
        random tokens. The whole computation is five lines, as they run here:"""
    )
    lines = (inspect.getsource(toy_head) + inspect.getsource(one_head)).splitlines()
    print("", *(line for line in lines if "# (T" in line), "", sep="\n")
    m = toy_head()
    raw = m.scores * math.sqrt(D_K)
    both = m.weights, raw.softmax(dim=1)
    # How many tokens a row looks at, in effect: exp(entropy).
    seen = [f"{torch.special.entr(w).sum(1).exp().mean():.0f}" for w in both]
    title = f"Untrained, a row looks at {seen[0]} tokens, in effect"
    figure = utils.head_matrices(m._asdict(), title)
    album.add("1-one-head", figure, "One untrained head, matrix by matrix.")
    title = f"With √d_k a row sees {seen[0]} tokens, without it {seen[1]}, in effect"
    figure = utils.side_by_side(both, ("with / √d_k", "without the scale"), title)
    album.add("1-why-the-scale", figure, "Weights with and without the square root.")
    tell(
        f"""Why √d_k? A score adds up {D_K} products: scores have a standard deviation of
        {raw[causal_mask(TOKENS)].std():.0f}, and softmax of them is almost all or nothing.
        Divided by √{D_K} = {math.sqrt(D_K):g}, every token in sight keeps a say."""
    )


@torch.no_grad()
def by_hand(model, words, head):
    """One trained head of the first layer, counted from 0, from its own weights."""
    x = model.token(train.as_ids(words)[0]) + model.position.weight[: len(words)]
    block, n_head = model.blocks[0], model.config.n_head
    linears = block.attention.query, block.attention.key, block.attention.value
    parts = (f(block.norm_1(x)).unflatten(1, (n_head, -1)) for f in linears)
    return one_head(*(part[:, head] for part in parts))  # of (T, n_head, head_size)


def step_2(album, model, roles):
    heading(2, "The same with trained numbers, by hand")
    first = [role for role in roles if role.head < model.config.n_head]
    carriers, words = {r.name: r.head for r in first}, examples(first or roles)[0]
    related = [r for r in train.relations_of(words) if r.name in carriers]
    relation, row, source = related[0] if related else ("", len(words) - 2, 0)
    head, words, after = carriers.get(relation, 0), words[: row + 1], words[row + 1]
    m, name = by_hand(model, words, head), train.head_names(model.config)[head]
    weights = model.attention_maps(train.as_ids(words))[0][0, head]
    error = (m.weights - weights).abs().max().item()
    shares = [f"{w[-1, source]:.0%}" for w in (m.weights, weights)]
    looks = f"“{words[-1]}” looks {shares[0]} at “{words[source]}”"
    title = f"{name} by hand: {looks}, in the model {shares[1]}"
    figure = utils.head_matrices(m._asdict(), title, words, after)
    caption = f"The same five lines; the model's own weights differ by {error:.0e}."
    album.add("2-by-hand", figure, caption)


# -------------------------------------------------------------------- steps 3 and 4


def step_3(album, model, roles):
    heading(3, "All heads, trained and untrained")
    words, names = best_example(roles), train.head_names(model.config)
    both = model, train.untrained(model.config)
    trained, untrained = (train.inspect_attention(m, words).weights for m in both)
    maps = torch.cat([trained, untrained[:1]])  # its layers look alike
    bands = [f"trained, layer {n + 1}" for n in range(len(trained))] + ["untrained"]
    figure = draw_heads(maps, words, range(len(names)), roles, names, bands=bands)
    album.add("3-heads", figure, "Every head; below them layer 1, untrained.")


def step_4(album, model, roles):
    heading(4, "Syntax and meaning, apart")
    names = train.head_names(model.config)
    kinds = {"syntactic": train.SYNTACTIC, "semantic": train.SEMANTIC}
    for kind, relations in kinds.items():
        some = [role for role in roles if role.name in relations]
        if not some:
            continue
        carried = [role for role in some if not role.shared]
        words = best_example(carried or some)
        heads = [head for head in range(len(names)) if carried_by(head, some, words)]
        heads = heads or sorted({role.head for role in some})
        maps = train.inspect_attention(model, words).weights.flatten(0, 1)[heads][None]
        figure = draw_heads(maps, words, heads, some, names, f"{kind.capitalize()}: ")
        seen = ", ".join(role.name for role in carried if cells(words, [role]))
        caption = f"In this sentence a head carries half or more of: {seen or 'none'}."
        album.add(f"4-{kind}", figure, caption)
    looks = torch.tensor([role.looks for role in roles]).T  # (heads, relations)
    unknown = [math.nan] * len(names)  # stays blank
    carries = torch.tensor([r.carries if r.known else unknown for r in roles]).T
    figure = utils.relation_matrices(looks, carries, [r.name for r in roles], names)
    album.add("4-matrices", figure, "Where every head looks, and what it carries.")
    tell(
        """What a head carries: how much of the way the decision moves when this head
        alone gives its output from the swapped sentence. Above 100%: too far."""
    )
    for role in roles:
        print(f"  {finding(role, names)}.")


# ------------------------------------------------------------------------- step 5


def step_5(album, model, roles):
    heading(5, "How heads come to be")
    words = examples(roles)[0]
    marked = [(r.row, r.source) for r in train.relations_of(words)]
    moments, captions = [], []

    def watch(model, moment):
        moments.append(train.inspect_attention(model, words).weights.flatten(0, 1))
        captions.append(f"step {moment.step}: {moment.against_floor}")

    settings = train.TrainConfig(steps=72, batch_size=48, eval_every=8)
    train.train(model.config, settings, watch)
    # Of each outlined cell, the head that came to look at it most.
    heads = [int(moments[-1][:, row, at].argmax()) for row, at in marked] or [0]
    shown, names = sorted(set(heads)), train.head_names(model.config)
    path, title = album.folder / "5-film.gif", " ".join(words[1:])
    maps, labels = torch.stack(moments)[:, shown], [names[head] for head in shown]
    utils.film(maps, words, captions, path, names=labels, mark=marked, title=title)
    caption = f"Another training of {settings.steps} steps, with its own heads."
    album.tell(path, f"Heads in training: {title}", caption)
    for head, (row, at) in zip(heads, marked):
        look = ", then ".join(f"{m[head, row, at]:.0%}" for m in moments[::3])
        print(f'  {names[head]}: "{words[row]}" looks at "{words[at]}" {look}.')


# ------------------------------------------------------------------------ the page


def page_data(model, held_out, roles):
    """What the page carries: the model, the language, and what its heads do."""
    shown = ("name", "head", "looks", "carries", "known")  # of a role
    return {
        "config": asdict(model.config),
        "heads": train.head_names(model.config),
        "vocabulary": train.VOCABULARY,
        "kinds": {k: [train.IDS[w] for w in ws] for k, ws in train.KINDS.items()},
        "shapes": [[name, list(t.shape)] for name, t in model.state_dict().items()],
        "trained": packed(model, held_out),
        "untrained": packed(train.untrained(model.config), held_out, small=True),
        "machine": machine(),
        "roles": [{name: getattr(role, name) for name in shown} for role in roles],
        "examples": [
            {"text": text, "at": text.split().index(word) + 1, "word": other}
            for text, word, other in EXAMPLES
        ],
    }


def packed(model, held_out, small=False):
    """The weights in the order of the state dict, as base64 of little-endian float32 or,
    small, of 8-bit integers and their scales; and each head's mean, [layer][head]."""
    tensors = [t.flatten() for t in model.state_dict().values()]
    data = {"means": [m[0, :, 0].tolist() for m in train.mean_outputs(model, held_out)]}
    if small:
        data["scales"] = [(t.abs().max().item() or 1.0) / 127 for t in tensors]
        tensors = [(t / scale).round() for t, scale in zip(tensors, data["scales"])]
    flat = torch.cat(tensors).numpy().astype("i1" if small else "<f4")
    return {"weights": base64.b64encode(flat.tobytes()).decode(), **data}


def as_json(data):
    """Compact JSON, its numbers with nine digits; what is not a number is null."""
    data = json.loads(
        json.dumps(data),
        parse_float=lambda digits: float(f"{float(digits):.9g}"),
        parse_constant=lambda name: None,  # nan, and the infinite ones
    )
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def machine():
    """The language as a table; states with the same future are one.

    A state is one of the ways on, "rule,back,back,...", in base 36: after each thing that
    the rule may say comes the state so many places back; before the first is the end.
    Said is "chance of each,words,use", by place in these lists; a use [role, settled by].
    """
    lists = defaultdict(dict)

    def place(name, item):
        return lists[name].setdefault(item, len(lists[name]))

    numbers = {None: -1}  # of the states that are done

    def number(state):
        if state not in numbers:
            words, said = {}, []
            for word, (chance, after, *use) in train.options(state).items():
                alike = float(f"{chance:.9g}"), number(after), *use
                words.setdefault(alike, []).append(train.IDS[word])
            for (chance, after, *use), ids in words.items():
                which = place("words", tuple(sorted(ids))), place("uses", tuple(use))
                said.append((place("said", (place("chances", chance), *which)), after))
            rule, nexts = zip(*sorted(said))
            numbers[state] = place("states", (place("rules", rule), *nexts))
        return numbers[state]

    start, states = number(train.START), enumerate(lists["states"])
    ways = [(r, *(at - n for n in ns)) for at, (r, *ns) in states]
    lists["states"] = [(place("ways", way),) for way in ways]
    table = {name: list(lists.pop(name)) for name in ("chances", "uses")}
    for name, rows in lists.items():
        texts = [",".join(np.base_repr(n, 36) for n in row) for row in rows]
        table[name] = ";".join(texts)
    return {"start": start, **table}


def logits_of_the_page(model, ids):
    """The page's pass (with the model's own eps): ids (B, T), logits (B, T, vocab_size)."""
    linear, norm = torch.nn.Linear.forward, torch.nn.LayerNorm.forward
    x = model.token.weight[ids] + model.position.weight[: ids.size(1)]
    for block in model.blocks:
        part, y = block.attention, norm(block.norm_1, x)  # (B, T, n_embd)
        parts = (linear(f, y) for f in (part.query, part.key, part.value))
        q, k, v = (p.unflatten(2, (part.n_head, -1)).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(part.project, y.transpose(1, 2).flatten(2))
        y = F.gelu(linear(block.mlp[0], norm(block.norm_2, x)))
        x = x + linear(block.mlp[2], y)
    return norm(model.norm, x) @ model.token.weight.T


def write_page(model, held_out, roles, path):
    """Write the page for a model: the template, its JSON block replaced. Raises Mistake
    where that can't be, and where an edited model.py computes something else."""
    ids, same = train.as_ids(train.VOCABULARY[: model.config.block_size]), False
    with looking(model), suppress(AttributeError, LookupError, RuntimeError, TypeError):
        same = model.logits(ids).allclose(logits_of_the_page(model, ids), atol=1e-4)
    if not same:
        raise train.Mistake(f"{path} is not written: it can't show the edited model.py")
    text = as_json(page_data(model, held_out, roles)).replace("</", "<\\/")
    before, rest = TEMPLATE.read_text("utf-8").split(OPENING)
    _, after = rest.split("</script>", 1)
    train.write(path, f"{before}{OPENING}{text}</script>{after}".encode())


def main():
    """`python attention_demo.py`: the five steps, and the page."""
    parser = train.Parser("Attention in pictures, step by step; writes the page.")
    parser.add_argument("--checkpoint", default=train.CHECKPOINT, help="the model")
    parser.add_argument("--format", default="png", choices=("png", "svg", "pdf"))
    parser.add_argument("--folder", default="figures", help="where the files go")
    parser.add_argument("--show", action="store_true", help="open the pictures too")
    parser.add_argument("--explore", action="store_true", help="open the page, only")
    flags = parser.parse_args()
    page = Path(flags.folder) / "explorer.html"
    model, held_out = train.load(flags.checkpoint)
    with suppress(OSError):  # which the next line names
        page.parent.mkdir(parents=True, exist_ok=True)
    train.write(page)  # what can't be written is told before the work
    roles = train.measure(model, held_out)
    if not flags.explore:
        album = Album(flags.folder, flags.format)
        step_1(album)
        for step in (step_2, step_3, step_4, step_5):
            step(album, model, roles)
        if flags.show:
            album.show()
    write_page(model, held_out, roles, page)
    print(f"{page}: the live model; open it with a double click.")
    if flags.explore:
        utils.open_page(page)


if __name__ == "__main__":
    with train.polite():
        main()
