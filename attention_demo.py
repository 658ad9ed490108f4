"""Attention in pictures: from random numbers to heads that each have a job.

    python attention_demo.py              # the lesson: explains, writes figures/
    python attention_demo.py --sentence "the thirsty horse near the cats drinks"
    python attention_demo.py --explore    # a window to play in

Five steps. One head on random numbers, matrix by matrix. The same computation on a real
sentence, checked against the trained model. All heads, beside the model untrained.
The heads that serve syntax and the heads that serve meaning, apart. And how heads come
to be, in a short training run. The explorer is for trying it all on sentences of your
own: hover over a weight, click a head, switch heads off and see what they were for.

Every name of a head and every number is measured on the model at hand.
"""

import math
import os
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.widgets import CheckButtons, TextBox

import train
import utils
from model import GPTConfig, attention, causal_mask

# Step 1 has the dimensions of the base model of Vaswani et al. 2017. Change them!
D_MODEL = 512  # features of a token
N_HEAD = 8  # heads share them
D_K = D_V = D_MODEL // N_HEAD  # 64 features for each head
TOKENS = 128  # tokens in the sequence
SEED = 0

# Step 2 looks at one relation in a sentence small enough for numbers, step 3 at three.
CLOSE_UP, CLOSE_UP_RELATION = "the quick brown fox", "adjective"
EXAMPLES = (
    "the cat chases the bird",
    "the quick brown fox",
    "cats and dogs are friends",
)
# Step 4: a second animal in between, and two animals that act together or apart.
DISTRACTED = (
    "the hungry cat near the sleepy dogs eats the same fish",
    "this greedy sheep behind the rabbits eats the same hay",
)
CONJUNCTION = ("the black cat and the little dog chase the same ball",)
# The explorer begins where the next word needs both the subject and the adjective.
START = "the hungry cat near the sleepy dogs"
SHORT_RUN = train.TrainConfig(steps=240, eval_every=20)  # step 5
STRIP = 6  # of its moments, side by side


# ------------------------------------------------------------------------ telling


def tell(text):
    """A paragraph for the reader."""
    print(textwrap.fill(" ".join(text.split()), 79), end="\n\n")


def heading(step, text):
    print(f"{step}. {text}\n{'=' * (len(text) + 3)}")


class Album:
    """Writes the figures of the lesson, and says what to look at in each."""

    def __init__(self, folder, ending, keep):
        self.folder, self.ending = folder, ending
        self.keep = keep  # leave the figures open for windows

    def add(self, name, figure, look):
        path = os.path.join(self.folder, f"{name}.{self.ending}")
        utils.save(figure, path, close=not self.keep)
        print(f"  {path}: {look}")


def row_labels(words):
    """The rows' names; the last one ends in a full stop if the sentence is whole."""
    return utils.row_labels(words, "." if train.in_language(words) else "…")


def jobs(roles):
    """What each head is best at: {head: [Role, ...]}, heads counted from 0."""
    heads = {}
    for role in roles:
        heads.setdefault(role.head, []).append(role)
    return heads


def role_of(roles, relation):
    return next(role for role in roles if role.name == relation)


def tasks(roles):
    """What one head does, such as "adjective 0.99, object 0.97"."""
    # A no-break space: a title that is broken into lines keeps a number with its name.
    told = [
        f"{role.name}\N{NO-BREAK SPACE}{role.top1[role.head]:.2f}" for role in roles
    ]
    return ", ".join(told) or "no relation of its own"


def head_titles(model, roles):
    """[layer][head] titles such as "L1H2 · adjective 0.99"."""
    found = jobs(roles)
    titles = []
    for head, name in enumerate(train.head_names(model.config)):
        titles.append(f"{name} · {tasks(found.get(head, ()))}")
    width = model.config.n_head
    return [titles[i : i + width] for i in range(0, len(titles), width)]


# ------------------------------------------------------------------------- step 1


def positions(count, size):
    """Sinusoidal positions (count, size): Vaswani et al. 2017, section 3.5."""
    angles = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :size]


def toy_head():
    """Each matrix of one head on random tokens, in order: {name: (tensor, caption)}."""
    random = torch.Generator().manual_seed(SEED)
    steps = {}

    def step(name, tensor, caption):
        steps[name] = tensor, caption
        return tensor

    tokens = torch.randn(TOKENS, D_K, generator=random)
    step("embeddings", tokens, "One random vector for each token.")
    places = step(
        "positions", positions(TOKENS, D_K), "Waves, fast to slow: where it is."
    )
    x = step("x = 1 + 2", tokens + places, "Which token it is, and where.")
    w_q, w_k, w_v = (
        step(
            f"W_{name}",
            torch.randn(D_K, size, generator=random) / math.sqrt(D_K),
            caption,
        )
        for name, size, caption in (
            ("Q", D_K, "Random here; training shapes it."),
            ("K", D_K, "Another one, for the keys."),
            ("V", D_V, "And one for the values."),
        )
    )
    q = step("Q = x W_Q", x @ w_q, "Queries: what each token looks for.")
    k = step("K = x W_K", x @ w_k, "Keys: what each token can be found by.")
    v = step("V = x W_V", x @ w_v, "Values: what each token hands over.")
    step("Q Kᵀ", q @ k.T, "How well each query and key match.")
    spread = (q @ k.T).std().item()
    step(
        "Q Kᵀ / √d_k",
        q @ k.T / math.sqrt(D_K),
        f"Scaled: spread ±{spread / math.sqrt(D_K):.1f} in place of ±{spread:.0f}.",
    )
    captions = {
        "scores": ("masked", "No token looks to the right."),
        "weights": ("softmax", "Each row is a share: it sums to 1."),
        "output": ("context", "What each token took from others."),
    }
    # The formula itself, from model.py, shows its steps.
    attention(
        q,
        k,
        v,
        causal_mask(TOKENS),
        see=lambda name, tensor: step(captions[name][0], tensor, captions[name][1]),
    )
    return steps


def draw_toy_head(steps):
    """All matrices in order, down the columns."""
    figure, axes = plt.subplots(3, 5, figsize=(16, 10.5), layout="constrained")
    places = list(axes.T.flat)
    for number, (ax, (name, (tensor, caption))) in enumerate(
        zip(places, steps.items())
    ):
        title = f"{number + 1}. {name}  {tuple(tensor.shape)}"
        future = {"blank": ~causal_mask(TOKENS), "vmin": 0, "vmax": 1}
        limits = future if name == "softmax" else {}
        utils.matrix(tensor, ax=ax, title=title, caption=caption, **limits)
    places[-1].axis("off")
    formula = "softmax( Q Kᵀ / √d_k + mask ) V"
    sizes = f"d_model = {D_MODEL}, heads = {N_HEAD}\nd_k = d_v = {D_K}"
    style = {"ha": "center", "in_layout": False}
    places[-1].text(0.5, 0.6, formula, fontsize=11, color=utils.HIGHLIGHT, **style)
    places[-1].text(0.5, 0.4, sizes, fontsize=10, color="0.35", **style)
    figure.get_layout_engine().set(h_pad=0.09)
    figure.suptitle("One attention head, from numbers to attention", fontsize=14)
    return figure


def effective(weights):
    """How many tokens each row looks at, in effect: exp(entropy) of (..., T)."""
    return torch.special.entr(weights).sum(-1).exp()


def draw_scale(steps):
    """softmax with and without √d_k; the figure, and the mean effective tokens of each."""
    q, k, v = (steps[f"{name} = x W_{name}"][0] for name in "QKV")
    mask = causal_mask(TOKENS)
    scaled = attention(q, k, v, mask)[1]
    plain = attention(q * math.sqrt(D_K), k, v, mask)[1]  # undoes the scale inside
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    for ax, weights, title in (
        (axes[0], scaled, "softmax( Q Kᵀ / √d_k )"),
        (axes[1], plain, "softmax( Q Kᵀ )"),
    ):
        spread = weights.amax(-1).mean()
        caption = f"The largest weight of a row is {spread:.2f} on average."
        limits = {"blank": ~mask, "vmin": 0, "vmax": 1}
        utils.matrix(weights, ax=ax, title=title, caption=caption, **limits)
    count = np.arange(1, TOKENS + 1)
    axes[2].plot(count, count, color=utils.GREY, ls=":", label="all it can see")
    axes[2].plot(count, effective(scaled), color=utils.PALETTE[0], label="with √d_k")
    axes[2].plot(count, effective(plain), color=utils.HIGHLIGHT, label="without")
    axes[2].tick_params(labelsize=7, labelcolor="0.35")
    axes[2].set_title("How many tokens a row looks at", loc="left", fontsize=10)
    axes[2].set_xlabel("row", fontsize=8)
    axes[2].set_ylabel("tokens, in effect: exp(entropy)", fontsize=8)
    axes[2].spines[["top", "right"]].set_visible(False)
    axes[2].legend(frameon=False, fontsize=9)
    return figure, effective(scaled).mean().item(), effective(plain).mean().item()


def step_1(album):
    heading(1, "One head, from numbers to attention")
    tell(
        f"""A GPT reads {D_MODEL} features of each token, and splits them among {N_HEAD}
        heads: {D_K} for each. Here is one head at work on {TOKENS} random tokens. It has
        learned nothing, so it prefers nothing: watch the computation."""
    )
    steps = toy_head()
    look = "read it down the columns, 1 to 14; from 12 on the future is blank."
    album.add("1-one-head", draw_toy_head(steps), look)
    figure, scaled, plain = draw_scale(steps)
    spread = steps["Q Kᵀ"][0].std().item()
    look = f"the same rows look at {scaled:.1f} tokens with the scale, {plain:.1f} without."
    album.add("1-why-the-scale", figure, look)
    print()
    tell(
        f"""Why √d_k? A score adds up {D_K} products, so scores spread over ±{spread:.0f}
        here. Softmax of such numbers is almost all or nothing: a row sees one token, and
        gradients vanish. Divided by √{D_K} = {math.sqrt(D_K):g} the spread is
        {spread / math.sqrt(D_K):.1f}, and every token keeps a say."""
    )


# ------------------------------------------------------------------------- step 2


@torch.no_grad()
def by_hand(model, words, head):
    """One trained head computed from its own weights: {name: (T, ...) tensor}.

    head: counted from 0 through all layers
    """
    layer, head = divmod(head, model.config.n_head)
    ids = torch.tensor([[train.IDS[word] for word in words]])
    x = model.token(ids) + model.position.weight[: len(words)]
    for block in model.blocks[:layer]:
        x, _ = block(x)
    block = model.blocks[layer]
    x = block.norm_1(x)[0]  # (T, n_embd)
    size = block.attention.head_size
    mine = slice(head * size, (head + 1) * size)  # this head's rows of each matrix
    steps = {}
    for name in ("query", "key", "value"):
        linear = getattr(block.attention, name)
        steps[name] = x @ linear.weight[mine].T + linear.bias[mine]  # (T, head_size)
    attention(*steps.values(), causal_mask(len(words)), see=steps.__setitem__)
    return steps


def draw_by_hand(steps, words, title):
    """The six matrices of one head on a sentence, with their numbers."""
    rows = row_labels(words)
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    for ax, name, heading, caption, names in (
        (axes[0, 0], "query", "Q", "What each word looks for.", rows),
        (axes[0, 1], "key", "K", "What each word can be found by.", words),
        (axes[0, 2], "value", "V", "What each word hands over.", words),
        (axes[1, 0], "scores", "Q Kᵀ / √d_k, masked", "The better they match …", rows),
        (axes[1, 1], "weights", "softmax", "… the more of its value is taken.", rows),
        (axes[1, 2], "output", "weights × V", "What the head passes on.", rows),
    ):
        values = steps[name]
        square = {"columns": words} if name in ("scores", "weights") else {}
        if name == "weights":
            square |= {"blank": ~causal_mask(len(words)), "vmin": 0, "vmax": 1}
        utils.matrix(
            values,
            ax=ax,
            title=f"{heading}  {tuple(values.shape)}",
            caption=caption,
            rows=names,
            numbers=".2f" if name == "weights" else ".1f",
            **square,
        )
    figure.suptitle(title, fontsize=14)
    return figure


def step_2(album, model, roles, sentence):
    heading(2, "The same, on a real sentence with a trained head")
    role = role_of(roles, CLOSE_UP_RELATION)
    name = train.head_names(model.config)[role.head]
    inspection = train.inspect_attention(model, sentence)
    words = inspection.words
    tell(
        f"""{name} is the head that looks most often at the {role.name} where the
        {role.name} settles the next word: in {role.top1[role.head]:.0%} of
        {role.count:,} places, in sentences it has never seen. Here it is on
        "{sentence}". A row is named by the word read and the word that comes next,
        because a GPT settles a word while it reads the one before. It never looks to the
        right: "{words[-2]}" can't look at "{words[-1]}", but "{words[-1]}" can look at
        "{words[-2]}"."""
    )
    steps = by_hand(model, words, role.head)
    title = f'{name} on "{sentence}"'
    look = "the last row; follow it from query to scores to weights."
    album.add("2-by-hand", draw_by_hand(steps, words, title), look)
    own = inspection.weights.flatten(0, 1)[role.head]
    difference = (steps["weights"] - own).abs().max().item()
    row = steps["weights"][-1]
    most = row.argmax().item()
    print(f"""
  The last row in numbers: "{words[-1]}" looks at …""")
    for word, score, weight in zip(words, steps["scores"][-1], row):
        print(f"    {word:<12} score {score:6.2f}   weight {weight:.3f}")
    print()
    tell(
        f"""Most of all at "{words[most]}". Computed here by hand, with the head's own
        matrices; the largest difference from the model's own map is {difference:.1e}."""
    )


# ------------------------------------------------------------------------- step 3


def step_3(album, model, roles, sentences):
    heading(3, "All heads on a sentence, trained and untrained")
    tell(
        """Each head is titled with its name (L1H2: layer 1, head 2), the relations it
        is the best head for, and how often its largest weight is on the right word in
        sentences it has never seen. Below each is the same head before training."""
    )
    blank = train.untrained(model.config)
    titles = head_titles(model, roles)
    names = [[title.split(" · ")[0] for title in row] for row in titles]
    layers = [f", layer {i + 1}" for i in range(len(titles))] if titles[1:] else [""]
    bands = [kind + layer for kind in ("trained", "untrained") for layer in layers]
    for number, sentence in enumerate(sentences, 1):
        words, weights = train.inspect_attention(model, sentence)
        both = torch.cat([weights, train.inspect_attention(blank, sentence).weights])
        rows = row_labels(words)
        figure = utils.compare_grid(both, words, titles + names, bands, rows=rows)
        sharp, flat = (w.amax(-1)[..., 1:].mean() for w in both.chunk(2))
        look = (
            f'"{sentence}": largest weight of a row {sharp:.2f}, untrained {flat:.2f}.'
        )
        album.add(f"3-all-heads-{number}", figure, look)
    print()
    tell(
        """In the first layer, a weight goes from a word to a word. Above it, what is
        looked at is already a mixture of several words: read those maps with care."""
    )


# ------------------------------------------------------------------------- step 4


def draw_view(inspection, relations, roles, names, heading):
    """The heads of some relations on one sentence, their maps above their arcs.

    relations: the relations of the sentence, whose pairs are outlined
    roles:     of these relations; names: of all heads, from 0 through all layers
    """
    words, weights = inspection.words, inspection.weights.flatten(0, 1)
    here = {relation.name for relation in relations}
    # Without any work here, the heads are shown as they are.
    serving = jobs([role for role in roles if role.name in here] or roles)
    figure, axes = plt.subplots(
        2,
        len(serving),
        squeeze=False,
        figsize=(5.6 * len(serving) + 1, 7.4),
        height_ratios=(5, 2),
        layout="constrained",
    )
    for (head, work), top, below in zip(sorted(serving.items()), *axes):
        job = [role.name for role in work]
        pairs = [(r.row, r.source) for r in relations if r.name in job]
        title = f"{names[head]} · {tasks(work)}"
        rows = row_labels(words)
        utils.heatmap(weights[head], words, ax=top, title=title, rows=rows, mark=pairs)
        utils.arcs(weights[head], words, ax=below, highlight=pairs)
    cells = axes[0, 0].collections[0]
    bar = figure.colorbar(cells, ax=axes[0], ticks=[0, 0.5, 1], aspect=30, pad=0.01)
    bar.set_label("attention weight", fontsize=9)
    bar.outline.set_visible(False)
    figure.suptitle(heading, fontsize=13)
    return figure


def looks_at(inspection, relations, roles):
    """A line on what the heads look at where the relations settle a word."""
    words, weights = inspection.words, inspection.weights.flatten(0, 1)
    head = {role.name: role.head for role in roles}
    told = [
        f'{r.name}: "{words[r.row]}" looks at "{words[r.source]}" '
        f"{weights[head[r.name], r.row, r.source]:.2f}"
        for r in relations
    ]
    return "; ".join(told) or "no relation of this kind in this sentence"


def step_4(album, model, roles, sentences):
    heading(4, "Syntax and meaning, apart")
    tell(
        """Which head serves which relation? The grammar knows where one word settles a
        later one; those pairs are outlined, and are the orange arcs below. The first
        view of a sentence shows the heads that serve syntax (number: is it "eats" or
        "eat"?), the second those that serve meaning (who eats what, and why)."""
    )
    names, number = train.head_names(model.config), 0
    views = {"syntactic": train.SYNTACTIC, "semantic": train.SEMANTIC}
    for sentence in sentences:
        inspection = train.inspect_attention(model, sentence)
        found = train.relations_of(inspection.words)
        for view, kinds in views.items():
            number += 1
            relations = [r for r in found if r.name in kinds]
            serving = [role for role in roles if role.name in kinds]
            title = f'{view.capitalize()} attention\n"{sentence}"'
            figure = draw_view(inspection, relations, serving, names, title)
            look = looks_at(inspection, relations, serving)
            album.add(f"4-views-{number}-{view}", figure, f"{look}.")
    print()


# ------------------------------------------------------------------------- step 5


def step_5(album, model, roles, sentence):
    heading(5, "How heads come to be, and what they are needed for")
    settings = SHORT_RUN
    tell(
        f"""A new model learns for {settings.steps} steps, and every
        {settings.eval_every} steps we look at its heads. Its numbers start as random as
        the trained model's once did; which head takes which job is decided on the way."""
    )
    moments, titles = [], []

    def watch(young, moment):
        inspection = train.inspect_attention(young, sentence)
        moments.append(inspection.weights.flatten(0, 1))  # (heads, T, T)
        titles.append(f"step {moment.step}\nloss {moment.held_out:.2f}")

    train.train(train.default_config(), settings, watch)
    words = train.inspect_attention(model, sentence).words
    heads = train.head_names(train.default_config())
    chosen = np.linspace(0, len(moments) - 1, STRIP).round().astype(int)
    figure = utils.strip(
        torch.stack([moments[i] for i in chosen]),
        words,
        [titles[i] for i in chosen],
        heads=heads,
        suptitle=f'Heads learn to look: "{sentence}"',
    )
    first, last = (moments[i].amax(-1)[:, 1:].mean() for i in (0, -1))
    look = (
        f"the largest weight of a row grows from {first:.2f} to {last:.2f} on average."
    )
    album.add("5-moments", figure, look)
    path = os.path.join(album.folder, "5-moments.gif")
    flat = [title.replace("\n", ", ") for title in titles]
    utils.film(torch.stack(moments), words, flat, path, heads=heads)
    print(f"  {path}: the same as a film, {len(moments)} moments.")
    needed(album, model, roles)


def needed(album, model, roles):
    """Where the heads look, and what they are needed for."""
    names = train.head_names(model.config)
    looks, needs = (
        np.array([getattr(role, field) for role in roles]).T
        for field in ("top1", "cost")
    )  # (heads, relations)
    relations = [role.name for role in roles]
    figure = utils.relation_matrices(looks, needs, relations, names)
    head, relation = np.unravel_index(needs.argmax(), needs.shape)
    look = (
        f"the darkest cell on the right: without {names[head]} the {relations[relation]} "
        f"relation costs {needs[head, relation]:.2f} nats more."
    )
    album.add("5-needs", figure, look)
    print()
    tell(
        """A map is not a proof: the removal is. On the right each head is switched off
        (it gives its average, whatever the words), and the loss rises where it was
        needed. Where a head looks and is not needed, others can do without it. Where it is
        needed and does not look, it may know something else about the same word."""
    )
    print("  relation     best head  looks  fixed offset  untrained  nats lost without")
    for role in roles:
        print(
            f"  {role.name:<12} {names[role.head]:<9} {role.top1[role.head]:6.2f}"
            f" {role.offset_top1:13.2f} {role.untrained_top1:10.2f}"
            f" {role.cost[role.head]:18.2f}"
        )
    print()


def lesson(model, held_out, album, sentence=None):
    """The five steps; a sentence of the reader's own takes the place of the examples."""
    roles = train.measure(model, held_out)
    step_1(album)
    step_2(album, model, roles, sentence or CLOSE_UP)
    step_3(album, model, roles, [sentence] if sentence else EXAMPLES)
    views = DISTRACTED + CONJUNCTION
    if sentence and train.relations_of(train.read(sentence)):
        views = (sentence,)
    elif sentence:
        tell(f'No word is settled by a relation in "{sentence}": step 4 has others.')
    step_4(album, model, roles, views)
    step_5(album, model, roles, sentence or DISTRACTED[0])


# ---------------------------------------------------------------------- the explorer


class Explorer:
    """A window to play in: type, hover, click a head, switch heads off.

    Everything is drawn once; what happens later only changes data. What follows the
    mouse is kept apart from the rest: a picture of the rest lies under it, so that the
    window answers at once.
    """

    SIZE = 12.8, 7.4  # inches
    BARS = 8  # words in the chart of predictions

    def __init__(self, model, roles, sentence):
        torch.set_num_threads(1)  # one sentence is too little work to be shared
        self.model = model
        self.names = train.head_names(model.config)
        self.titles = [title for row in head_titles(model, roles) for title in row]
        self.off = set()  # heads switched off; all heads are counted from 0
        self.head = role_of(
            roles, CLOSE_UP_RELATION
        ).head  # the head that is shown large
        self.typing = False
        self.cell = None  # the (row, column) under the mouse
        self.chosen = 0  # the row to predict from while the mouse is elsewhere
        with plt.rc_context({"toolbar": "None"}):  # its zoom would catch the clicks
            self.figure = plt.figure(figsize=self.SIZE, facecolor="w")
        self.build_sentence(sentence)
        self.build_thumbnails()
        self.build_boxes()
        self.build_map()
        self.build_chart()
        # What follows the mouse.
        self.live = [self.large.yaxis, self.frame, self.told, self.chart, *self.spoken]
        for artist in self.live:
            artist.set_animated(True)  # drawn by draw_live alone
        self.backdrop = None  # a picture of all the rest
        self.figure.canvas.mpl_connect("draw_event", self.keep_backdrop)
        self.figure.canvas.mpl_connect("motion_notify_event", self.hover)
        self.figure.canvas.mpl_connect("button_press_event", self.click)
        self.take(sentence)

    # The parts of the window, empty. Places are (left, bottom, width, height) in 0..1.

    def label(self, x, y, text, size=9, color="0.45", **style):
        return self.figure.text(x, y, text, fontsize=size, color=color, **style)

    def build_sentence(self, sentence):
        ax = self.figure.add_axes((0.09, 0.925, 0.56, 0.048))
        ax.spines[:].set_color("0.7")
        connect = self.figure.canvas.mpl_connect
        connect("key_press_event", self.before_key)  # and then the box hears of it
        self.box = TextBox(ax, "Sentence  ", initial=sentence, hovercolor="#F1F3F5")
        self.box.label.set(fontsize=11, fontweight="bold")
        self.box.text_disp.set_fontsize(12)
        self.box.on_submit(self.take)
        connect("key_press_event", self.after_key)
        self.draw_all, self.figure.canvas.draw = self.figure.canvas.draw, self.draw
        self.message = self.label(0.665, 0.949, "", va="center")
        self.spoken = []  # the sentence, each word in the colour of its weight
        for _ in range(self.model.config.block_size):
            word = self.label(0, 0.855, "", ha="center")
            word.set_bbox({"boxstyle": "round,pad=0.3"})
            self.spoken.append(word)

    # A TextBox draws the whole window at each key, too slow for a fast typist: between
    # these two events only the box itself is drawn, unless the sentence changes.

    def before_key(self, _):
        self.typing = True

    def after_key(self, _):
        self.typing = False

    def draw(self):
        if not self.typing:
            return self.draw_all()
        self.figure.draw_artist(self.box.ax)
        return self.figure.canvas.blit(self.box.ax.bbox)

    def redraw(self):
        """Draw the whole window, as soon as there is time."""
        self.typing = False
        self.figure.canvas.draw_idle()

    def keep_backdrop(self, _):
        """The whole window was drawn, all but what follows the mouse."""
        self.backdrop = self.figure.canvas.copy_from_bbox(self.figure.bbox)
        self.draw_live()

    def draw_live(self):
        """Draw what follows the mouse on the picture of the rest."""
        if self.backdrop is None:
            return
        self.figure.canvas.restore_region(self.backdrop)
        for artist in self.live:
            self.figure.draw_artist(artist)
        self.figure.canvas.blit(self.figure.bbox)

    def build_thumbnails(self):
        self.label(0.02, 0.785, "Heads", 11, "k", fontweight="bold")
        self.label(0.077, 0.785, "click one to enlarge it")
        columns = math.ceil(math.sqrt(len(self.names)))
        rows = math.ceil(len(self.names) / columns)
        width, height = 0.25 / columns, 0.4 / rows
        self.thumbnails, self.small = [], []
        for head in range(len(self.names)):
            row, column = divmod(head, columns)
            place = 0.02 + column * width, 0.775 - (row + 1) * height
            ax = self.figure.add_axes((*place, 0.88 * width, 0.84 * height), anchor="W")
            ax.set(xticks=[], yticks=[])
            self.thumbnails.append(ax)
            self.small.append(self.empty_map(ax))

    def build_boxes(self):
        self.label(0.02, 0.325, "Switch heads off", 11, "k", fontweight="bold")
        self.label(0.155, 0.325, "and watch the next word")
        count = len(self.names)
        ax = self.figure.add_axes((-0.01, 0.02, 0.3, 0.3))
        ax.axis("off")
        self.boxes = CheckButtons(
            ax,
            [textwrap.fill(title, 34) for title in self.titles],
            [True] * count,
            label_props={"fontsize": [9 if count <= 8 else 6] * count},
            frame_props={"s": [110] * count, "edgecolor": ["0.5"] * count},
            check_props={"s": 110, "facecolor": utils.PALETTE[0], "linewidth": 2},
        )
        # A tick reads as "on"; the cross that is usual here might read as "off".
        tick = Path([(-0.3, 0), (-0.1, -0.25), (0.35, 0.35), (-0.1, -0.25)])
        self.boxes.set_check_props({"paths": [tick]})
        self.boxes.drawon = False  # `switch` draws, once
        self.boxes.on_clicked(self.switch)

    def build_map(self):
        self.large = self.figure.add_axes((0.385, 0.17, 0.33, 0.57))
        self.large.spines[:].set_visible(False)
        self.large.tick_params(length=0)
        self.big = self.empty_map(self.large)
        self.told = self.label(0.385, 0.035, "", 13)
        style = {"fill": False, "lw": 2, "ec": utils.HIGHLIGHT, "clip_on": False}
        self.frame = self.large.add_patch(Rectangle((0, 0), 1, 1, **style))
        style = {"ha": "center", "va": "center", "fontsize": 8}
        size = self.model.config.block_size
        self.numbers = {
            (row, column): self.large.text(column + 0.5, row + 0.5, "", **style)
            for row in range(size)
            for column in range(row + 1)
        }

    def build_chart(self):
        self.chart = self.figure.add_axes((0.785, 0.17, 0.185, 0.57))
        empty = [0.0] * self.BARS
        utils.bars([""] * self.BARS, {"model": empty, "grammar": empty}, ax=self.chart)

    @staticmethod
    def empty_map(ax):
        style = {"cmap": utils.CMAP, "interpolation": "nearest"}
        return ax.imshow([[0]], vmin=0, vmax=1, **style)

    # What the reader does.

    def take(self, text):
        """Show another sentence; the old one stays where the text makes no sense."""
        try:
            words = train.read(text, self.model.config.block_size)
        except train.Mistake as mistake:
            self.say(str(mistake), utils.HIGHLIGHT)
            self.redraw()
            return
        self.words, self.chosen = words, len(words) - 1
        then = train.next_words(tuple(words))
        if train.END in then:
            self.say("A sentence of the language.")
        elif then:
            self.say("The beginning of a sentence.")
        else:
            self.say("No sentence of the language begins like this.")
        self.lay_out_words()
        self.look()

    def hover(self, event):
        if (cell := self.cell_at(event)) != self.cell:
            self.point(cell)

    def click(self, event):
        if event.inaxes in self.thumbnails:
            self.head = self.thumbnails.index(event.inaxes)
            self.draw_map()
        elif cell := self.cell_at(event):
            self.chosen = cell[0]
            self.point(cell)

    def switch(self, _):
        """A check box was clicked."""
        on = self.boxes.get_status()
        self.off = {head for head in range(len(on)) if not on[head]}
        self.look()

    def cell_at(self, event):
        """The (row, column) of the large map under the mouse, or None."""
        if event.inaxes is not self.large:
            return None
        row, column = int(event.ydata), int(event.xdata)
        return (row, column) if column <= row < len(self.words) else None

    # What the window answers.

    def say(self, text, color="0.45"):
        self.message.set(text=textwrap.fill(text, 62), color=color)

    def crippled(self):
        """The model without the heads that are switched off."""
        width = self.model.config.n_head
        return self.model.heads_off([divmod(head, width) for head in self.off])

    def look(self):
        """New maps: of another sentence, or without some heads."""
        with self.crippled():
            weights = train.inspect_attention(self.model, self.words).weights
        size = len(self.words)
        future = (~causal_mask(size)).expand_as(weights)
        self.maps = np.ma.array(weights, mask=future).reshape(-1, size, size)
        for head, (ax, image) in enumerate(zip(self.thumbnails, self.small)):
            off = head in self.off
            image.set(data=self.maps[head], extent=(0, size, size, 0))
            image.set_alpha(0.2 if off else 1)
            name = self.names[head] + (" is off" if off else "")
            ax.set_title(name, y=1, fontsize=9, loc="left", pad=3)
        self.draw_map()

    def draw_map(self):
        """The head that was clicked, large."""
        weights, size = self.maps[self.head], len(self.words)
        self.big.set(data=weights, extent=(0, size, size, 0))
        places = np.arange(size) + 0.5
        self.large.set_xticks(places, self.words, rotation=90, fontsize=9)
        self.large.set_yticks(places, row_labels(self.words), fontsize=9)
        title = self.titles[self.head]
        self.large.set_title(title, y=1, loc="left", fontsize=12, pad=8)
        for (row, column), number in self.numbers.items():
            weight = weights[row, column] if row < size else 0
            text = f"{weight:.2f}" if weight >= 0.05 else ""  # the rest is for hovering
            number.set(text=text, color=utils.ink(self.big.to_rgba(weight)))
        for head, ax in enumerate(self.thumbnails):
            here = head == self.head
            ax.spines[:].set(color=utils.HIGHLIGHT if here else "0.85", lw=1 + here)
        self.mark(self.cell if self.cell and self.cell[0] < size else None)
        self.redraw()

    def point(self, cell):
        """The mouse has moved to another cell, or off the map."""
        self.mark(cell)
        self.draw_live()

    def mark(self, cell):
        """Mark a cell, its row and its word; None goes back to the row chosen last."""
        self.cell = cell
        row, column = cell or (self.chosen, 0)
        self.frame.set(xy=(column, row), width=1 if cell else row + 1)
        if cell:
            words, weight = self.words, self.maps[self.head][cell]
            text = f"{words[row]} looks at {words[column]}: {weight:.2f}"
            self.told.set(text=text, color=utils.HIGHLIGHT, fontsize=14)
        else:
            text = "Hover over a cell to read it; click to keep its row."
            self.told.set(text=text, color="0.45", fontsize=9)
        for place, label in enumerate(self.large.get_yticklabels()):
            label.set_color(utils.HIGHLIGHT if place == row else "0.15")
        self.light_words(row)
        self.predict(row)

    def lay_out_words(self):
        """Place the sentence in one line over the whole width."""
        lengths = np.array([len(word) + 2.5 for word in self.words])
        step = min(0.0125, 0.96 / lengths.sum())  # of a letter
        middles = 0.02 + step * (np.cumsum(lengths) - lengths / 2)
        for word in self.spoken:
            word.set_visible(False)
        for word, text, middle in zip(self.spoken, self.words, middles):
            word.set(text=text, x=middle, fontsize=1080 * step, visible=True)

    def light_words(self, row):
        """Give each word the colour of its weight in a row, and the row's word a frame."""
        for place, word in enumerate(self.spoken[: len(self.words)]):
            weight = self.maps[self.head][row, place]
            box = self.big.to_rgba(weight) if place <= row else (1, 1, 1, 0)
            edge = utils.HIGHLIGHT if place == row else "none"
            word.get_bbox_patch().set(facecolor=box, edgecolor=edge, lw=2)
            word.set_color(utils.ink(box) if place <= row else "0.7")

    def predict(self, row):
        """The word after a row: what the model expects, beside the grammar's truth."""
        words = self.words[: row + 1]
        with self.crippled():
            model = train.expect(self.model, words)
        truth = train.next_words(tuple(words))
        chance = {word: max(model[word], truth.get(word, 0)) for word in model}
        shown = sorted(chance, key=chance.get, reverse=True)[: self.BARS]
        shown = [word if chance[word] >= 0.005 else "" for word in shown]
        self.chart.set_yticklabels(shown)
        values = [one.get(word, 0) for one in (model, truth) for word in shown]
        texts = [f"{value:.0%}" for value in values]
        for bar, text, value in zip(self.chart.patches, self.chart.texts, values):
            bar.set_width(value)
            text.xy = value, text.xy[1]
        for text, told, word in zip(self.chart.texts, texts, shown * 2):
            text.set_text(told if word else "")
        without = ", ".join(self.names[head] for head in sorted(self.off))
        title = f'After "{words[-1]}"' + (f" without {without}" if without else "")
        self.chart.set_title(title, y=1, loc="left", fontsize=11, pad=8)


# -------------------------------------------------------------------------- main


def folder_for(path):
    """Make the folder for the figures now. Raises Mistake where that can't be."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise train.Mistake(f"can't make the folder {path}: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise train.Mistake(f"can't write into {path}: choose another place with --out")
    return path


def main():
    """`python attention_demo.py`: the lesson, or the explorer."""
    parser = train.Parser(__doc__)
    add = parser.add_argument
    add("--sentence", help="a sentence of your own, in place of the examples")
    add("--out", default="figures", metavar="DIR", help="where the figures are written")
    kinds = [ending.strip(".") for ending in utils.ENDINGS]
    add("--format", default=kinds[0], choices=kinds, help="of the figures")
    add("--no-show", action="store_true", help="open no windows, only write files")
    add("--explore", action="store_true", help="open a window to play in")
    flags = parser.parse_args()

    screen = utils.has_screen() and not flags.no_show
    if flags.explore and not screen:
        raise train.Mistake(
            "the explorer needs a screen; without one, "
            '"python attention_demo.py" writes the figures to files'
        )
    sentence = flags.sentence
    if sentence is not None:
        words = train.read(sentence, GPTConfig.block_size)
        sentence = " ".join(words[1:])
    if not flags.explore:
        folder_for(flags.out)
    model, held_out = train.load()
    if flags.explore:
        roles = train.measure(model, held_out)
        explorer = Explorer(model, roles, sentence or START)
        explorer.figure.canvas.manager.set_window_title("Toy GPT explorer")
    else:
        lesson(model, held_out, Album(flags.out, flags.format, screen), sentence)
    if screen:
        plt.show()


if __name__ == "__main__":
    with train.polite():
        main()
