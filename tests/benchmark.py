"""Measures what the README quotes. Each part prints a table.

    python tests/benchmark.py heads 10300 20      # twenty seeds from 10300 on (4 min)
    python tests/benchmark.py seeds 10300 20      # the same: floor, in the language (3 min)
    python tests/benchmark.py experiments 10300 5 # other shapes and recipes (9 min)
    python tests/benchmark.py speed               # against peers made from PyTorch (4 min)
    python tests/benchmark.py faults              # damaged files, killed processes (2 min)

Heads, seeds and experiments tell the mean of the seeds, and the worst. A speed stands
beside that of a peer, run in turn with ours after one run of each that only warms up; it
is a median, but of the demo and of the way to 1% a single run, the latter not warmed up.
Clicks in the page, which has no peer, are medians too.
"""

import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import model as gpt
import train
from model import GPT, GPTConfig, check

# --------------------------------------------------------------------- heads and seeds


class Trained:
    """A trained model, and what there is to say of it. Its seconds are all told: with the
    corpus, the held-out sentences and the looks at the loss."""

    def __init__(self, config=None, **settings):
        start = time.perf_counter()
        self.settings = train.TrainConfig(**settings)
        self.model, self.held_out = train.train(config or GPTConfig(), self.settings)
        self.seconds = time.perf_counter() - start
        loss, floor = train.loss_and_floor(self.model)
        self.above = 100 * (loss / floor - 1)

    @cached_property
    def roles(self):
        return train.measure(self.model, self.held_out)

    def shares(self):
        """The main carrier's share of each relation, 0 where the model knows none."""
        return [role.carries[role.head] if role.known else 0.0 for role in self.roles]

    def seen(self):
        """Of each relation, how many beginnings of its pairs were in training."""
        corpus = self.settings.corpus()
        begun = {words[:n] for words in corpus for n in range(len(words))}
        pairs = train.pairs_of(self.held_out).values()
        return [statistics.mean(pair.words in begun for pair in some) for some in pairs]

    def looking(self):
        """How many relations have a head that looks at the right word, 95 in 100."""
        return sum(max(role.looks) >= 0.95 for role in self.roles)

    def agreeing(self):
        """How many main carriers look right themselves, or best."""
        return sum(r.looks[r.head] >= min(0.95, max(r.looks)) for r in self.roles)

    def idle(self):
        """How many heads carry less than 5% of every relation; nan is nothing."""
        by_head = zip(*(role.carries for role in self.roles))
        return sum(not any(x >= 0.05 for x in shares) for shares in by_head)


def row(name, cells, form):
    """One line of a table, its cells in one format."""
    print(f"{name:>5}  " + "  ".join(format(x, form) for x in cells), flush=True)


def heads(first, count):
    """For each seed and relation the main carrier: its name, what it carries / looks.
    seen: the mean share of the relation's beginnings that were in training."""
    row("seed", train.RELATIONS, ">18")
    rows, seen = [], []
    for seed in range(first, first + count):
        t = Trained(seed=seed)
        names = train.head_names(t.model.config)
        cells = [
            f"{names[r.head]} {share:.2f} / {r.looks[r.head]:.2f}"
            for r, share in zip(t.roles, t.shares())
        ]
        row(seed, cells, ">18")
        seen.append(t.seen())
        carriers, right = {r.head for r in t.roles}, min(r.right for r in t.roles)
        rows.append((t.shares(), t.looking(), t.agreeing(), len(carriers), right))
    shares, looking, agreeing, carriers, right = zip(*rows)
    for what, pick in (("mean", statistics.mean), ("worst", min)):
        row(what, map(pick, zip(*shares)), ">18.2f")
    row("seen", map(statistics.mean, zip(*seen)), ">18.2f")
    everything = len(train.RELATIONS) * count
    flat = [share for row in shares for share in row]
    print(f"mean share of the main carrier: {statistics.mean(flat):.3f}")
    print(f"a head looks right in 95%: {sum(looking)} of {everything}")
    print(f"the main carrier does, or looks best: {sum(agreeing)} of {everything}")
    print(f"heads that carry a relation: {list(carriers)}")
    print(f"decisions right, worst relation of each seed: {min(right):.3f} at least")


def seeds(first, count):
    """For each seed: percent above the floor, and percent in the language."""
    print(f"the entropy of the language is {train.entropy():.4f} nats a word")
    print(" seed  above the floor  in the language at 1 and at 0.7  seconds")
    rows = []
    for seed in range(first, first + count):
        t = Trained(seed=seed)
        shares = [
            100 * train.share_in_language(t.model, temperature=temperature, seed=seed)
            for temperature in (1.0, 0.7)
        ]
        rows.append((t.above, *shares, t.seconds))
        row(seed, rows[-1], "8.2f")
    above, at_1, at_07, seconds = zip(*rows)
    row("mean", map(statistics.mean, zip(*rows)), "8.2f")
    row("worst", (max(above), min(at_1), min(at_07), max(seconds)), "8.2f")


def experiments(first, count):
    """Other shapes and recipes: what they cost, and what becomes of the heads. A line is
    the mean of these seeds; worst is the farthest above the floor."""
    seeds = range(first, first + count)
    print(
        f"{'':<22}{'parameters':>11}{'seconds':>9}{'above, %':>10}{'worst':>7}"
        f"{'looks':>7}{'known':>7}{'share':>7}{'idle':>6}"
    )
    experiment(seeds, "the default")
    experiment(seeds, "n_head 1", GPTConfig(n_head=1))
    experiment(seeds, "n_head 2", GPTConfig(n_head=2))
    experiment(seeds, "n_head 8, n_embd 40", GPTConfig(n_head=8, n_embd=40))
    experiment(seeds, "n_layer 2", GPTConfig(n_layer=2))
    experiment(seeds, "n_layer 3", GPTConfig(n_layer=3))
    experiment(seeds, "n_embd 16", GPTConfig(n_embd=16))
    experiment(seeds, "n_embd 64", GPTConfig(n_embd=64))
    experiment(seeds, "dropout 0.1", GPTConfig(dropout=0.1))
    experiment(seeds, "weight decay 0", weight_decay=0.0)
    mask, attention = gpt.causal_mask, gpt.attention
    no_scale = lambda q, *rest: attention(q * math.sqrt(q.size(-1)), *rest)
    with patch.object(gpt, "attention", no_scale):
        experiment(seeds, "no scale")
    with patch.object(gpt, "causal_mask", lambda T: mask(T).triu(-1)):
        experiment(seeds, "a mask of two words")


def experiment(seeds, name, config=None, **settings):
    """One line of the table of experiments."""
    rows, shares = [], []
    for seed in seeds:
        t = Trained(config, seed=seed, **settings)
        known = [role.carries[role.head] for role in t.roles if role.known]
        rows.append((t.seconds, t.above, t.looking(), len(known), t.idle()))
        shares += known
    seconds, above, looks, known, idle = (statistics.mean(row) for row in zip(*rows))
    share = statistics.mean(shares or [math.nan])
    worst = max(row[1] for row in rows)
    count = sum(p.numel() for p in t.model.parameters())
    print(
        f"{name:<22}{count:>11,}{seconds:>9.0f}{above:>10.2f}{worst:>7.2f}"
        f"{looks:>7.1f}{known:>7.1f}{share:>7.2f}{idle:>6.1f}",
        flush=True,
    )


# ------------------------------------------------------------------------------ speed


class Peer(nn.Module):
    """A GPT of the same size from PyTorch's own layers."""

    def __init__(self, config):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            config.n_embd, config.n_head, 4 * config.n_embd, config.dropout,
            "gelu", batch_first=True, norm_first=True,
        )  # fmt: skip
        self.token = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = nn.Embedding(config.block_size, config.n_embd)
        self.layers = nn.TransformerEncoder(
            layer, config.n_layer, enable_nested_tensor=False
        )
        self.norm = nn.LayerNorm(config.n_embd)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, ids, targets):
        T = ids.size(1)
        x = self.token(ids) + self.position.weight[:T]  # (B, T, n_embd)
        mask = nn.Transformer.generate_square_subsequent_mask(T)
        x = self.layers(x, mask=mask, is_causal=True)
        logits = self.norm(x) @ self.token.weight.T  # (B, T, vocab_size)
        return logits, F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=gpt.PADDING
        )


def medians(ours, peer, repeats=7):
    """The median seconds of two functions, called in turn."""
    times = ([], [])
    for i in range(repeats + 1):
        for function, kept in zip((ours, peer), times):
            start = time.perf_counter()
            function()
            if i:  # the first call of each only warms up
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def line(what, ours, peer="", ratio="", bar=""):
    """One line of the table of speeds."""
    print(f"  {what:<38} {ours:>14} {peer:>14} {ratio:>7} {bar:>9}", flush=True)


class Reached(Exception):
    """The loss is within 1% of the floor."""


def seconds_to_one_percent(run):
    """How long a training takes until the loss on 1,000 random sentences, which may have
    been in training, is 1% above the floor; the looks at the loss count too."""
    start = time.perf_counter()

    def watch(model, moment):
        if moment.loss <= 1.01 * moment.floor:
            raise Reached

    try:
        run(watch)
    except Reached:
        return time.perf_counter() - start
    return math.inf


LOOK_EVERY = 25  # steps


def common_recipe(watch, steps=6000, warm_up=100):
    """What most people start from: two layers, 64 features, 40,000 sentences again and
    again in batches of 64, AdamW, 1e-3, cosine."""
    config = GPTConfig(n_layer=2, n_head=4, n_embd=64)
    torch.manual_seed(0)
    model = GPT(config).train()
    corpus = [s.words for s in train.sample(40000, "common")]
    ids, targets = train.tensors(corpus)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1
    )
    for step in range(steps):
        if step % LOOK_EVERY == 0:
            watch(model, train.evaluate(model, step))
        done = max(0, step - warm_up) / (steps - warm_up)
        rate = min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        batch = torch.randint(len(ids), (64,))
        model(ids[batch], targets[batch])[1].backward()
        optimizer.step()
        optimizer.zero_grad()


def training_step():
    """Seconds of thirty steps, with the same optimiser and the same batches."""
    config, batch_size = GPTConfig(), train.TrainConfig().batch_size
    corpus = [s.words for s in train.sample(30 * batch_size, "speed")]
    ids, targets = train.tensors(corpus)

    def steps(model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        model.train()

        def run():
            for part in zip(ids.split(batch_size), targets.split(batch_size)):
                model(*part)[1].backward()
                optimizer.step()
                optimizer.zero_grad()

        return run

    ours, peer = medians(steps(GPT(config)), steps(Peer(config)), repeats=15)
    milliseconds = [f"{1000 * x / 30:.2f}" for x in (ours, peer)]
    line("forward, backward, AdamW, ms", *milliseconds, f"{peer / ours:.2f}", "≥ 1")


def time_to_one_percent():
    """Each by its own recipe, shape and data: the default one, and the common one."""
    config, settings = GPTConfig(), train.TrainConfig(eval_every=LOOK_EVERY)
    ours = seconds_to_one_percent(lambda watch: train.train(config, settings, watch))
    peer = seconds_to_one_percent(common_recipe)
    times = f"{ours:.1f}", f"{peer:.1f}", f"{peer / ours:.1f}"
    line("1% above the floor, s (own recipes)", *times, "≥ 5")


def process(folder, *arguments):
    """A function that runs Python once."""
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, cwd=folder, capture_output=True, check=True)


def start_up():
    """Whole processes, as multiples of `import torch`."""
    with tempfile.TemporaryDirectory() as folder:
        example = process(folder, ROOT / "example.py")

        def anew():
            Path(folder, "checkpoint.pt").unlink(missing_ok=True)
            example()  # which trains, and leaves a checkpoint.pt for the next rows

        demo = process(folder, ROOT / "attention_demo.py")
        for what, ours, bar, repeats in (
            ("import train", process(ROOT, "-c", "import train"), "≤ 1.2", 5),
            ("python train.py", process(folder, ROOT / "train.py"), "≤ 8", 3),
            ("python example.py from nothing", anew, "≤ 8", 3),
            ("python example.py", example, "≤ 2.5", 5),
            ("python attention_demo.py", demo, "≤ 8", 1),
        ):
            a, b = medians(ours, process(folder, "-c", "import torch"), repeats)
            line(what, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}", bar)


CLICKS = """
const spent = [], press = (css) => {
  const start = performance.now();
  document.querySelector(css).click();
  document.body.offsetHeight;  // lays the page out
  spent.push(performance.now() - start);
};
for (let i = 0; i < 8; i++) {
  press('[data-do="task"]'); press('[data-do="patch"]'); press('[data-do="switch"]');
}
return spent;
"""


def page():
    """From a click in assets/explorer.html to the changed page: each kind of click, and
    the slowest kind."""
    from conftest import open_browser

    browser = open_browser()
    try:
        browser.get((ROOT / "assets" / "explorer.html").as_uri())
        spent = browser.execute_script(CLICKS)
    finally:
        browser.quit()
    kinds = "a task", "a head to patch", "a head to switch off"  # as in CLICKS
    each = [statistics.median(spent[i :: len(kinds)]) for i in range(len(kinds))]
    for kind, milliseconds in zip(kinds, each):
        line(f"a click on {kind}, ms", f"{milliseconds:.0f}")
    line("a click in the page, the slowest, ms", f"{max(each):.0f}", bar="≤ 50")


def speed():
    """Every line: this project, the peer, the ratio, and the bar for the ratio."""
    line("a process, s", "Toy GPT", "import torch", "slower", "bar")
    start_up()
    line("", "Toy GPT", "peer", "faster", "bar")
    for part in (training_step, page, time_to_one_percent):
        part()


# ----------------------------------------------------------------------------- faults

# Two models in turn, saved under one name for ever; a dot is printed before each.
SAVER = """
import itertools, sys, train
saved = [train.load_checkpoint(path) for path in sys.argv[1:3]]
for model, held_out in itertools.cycle(saved):
    print(".", end="", flush=True)
    train.save_checkpoint("checkpoint.pt", model, held_out)
"""
TRAINING = [sys.executable, ROOT / "train.py", "--steps=40", "--eval_every=10"]


def damage(folder, rng):
    """Cut checkpoint.pt somewhere, or change some of its bytes."""
    path = folder / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    else:
        for _ in range(rng.choice((1, 1, 4, 64))):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def kill(process, seconds):
    """Kill a process after so many seconds."""
    time.sleep(seconds)
    process.kill()
    process.communicate()


def kill_saving(folder, rng):
    """Kill a process that does nothing but save."""
    command = [sys.executable, "-c", SAVER, "old.pt", "new.pt"]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    saver = subprocess.Popen(command, cwd=folder, env=path, stdout=subprocess.PIPE)
    saver.stdout.read(2)  # it has saved once, and saves now
    kill(saver, rng.uniform(0, 0.1))


def kill_training(folder, rng):
    """Kill a whole training, mostly after its last step."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    training = subprocess.Popen(TRAINING, cwd=folder, **quiet)
    if rng.random() < 0.25:
        kill(training, rng.uniform(0, 4))
        return
    while not training.stderr.readline().startswith(b"step    40"):
        assert training.poll() is None, "the training has failed"
    kill(training, rng.uniform(0, 1.5))  # in which it saves


def train_again(folder, rng):
    """A training that nobody kills, beside the drafts that the killed have left."""
    subprocess.run(TRAINING, cwd=folder, capture_output=True, check=True)


FAULTS = (  # the fault, what does it, how often, and the fates that are no loss
    ("a checkpoint cut or changed", damage, 200, ("refused", "old")),
    ("SIGKILL while saving", kill_saving, 50, ("old", "new")),
    ("SIGKILL while training", kill_training, 8, ("old", "new")),
    ("the next training", train_again, 1, ("new",)),
)


def briefly_trained(folder, name, seed):
    """A model that is saved there; of seed 0 the one that TRAINING makes."""
    settings = train.TrainConfig(steps=40, eval_every=10, seed=seed)
    model, held_out = train.train(GPTConfig(), settings)
    train.save_checkpoint(folder / f"{name}.pt", model, held_out)
    return model


def fate(path, models):
    """What loading gives: "refused", "wrong", or the name of the identical model."""
    try:
        state = train.load_checkpoint(path)[0].state_dict()
    except train.Mistake:
        return "refused"
    for name, model in models.items():
        if all(torch.equal(state[key], t) for key, t in model.state_dict().items()):
            return name
    return "wrong"


def faults():
    """Damage and kill: no checkpoint may be loaded wrong, none may be lost."""
    rng, started, all_survived = random.Random(0), time.perf_counter(), True
    print(f"{'fault':<34}{'tried':>6}{'survived':>10}   what was left")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = {"old": 1, "new": 0}
        models = {n: briefly_trained(folder, n, seed) for n, seed in names.items()}
        for what, fault, count, no_loss in FAULTS:
            left = Counter()
            for done in range(1, count + 1):
                shutil.copy(folder / "old.pt", folder / "checkpoint.pt")
                fault(folder, rng)
                left[fate(folder / "checkpoint.pt", models)] += 1
                if sys.stderr.isatty():
                    print(f"{what}: {done}", end="\r", file=sys.stderr, flush=True)
            survived = sum(left[name] for name in no_loss)
            all_survived &= survived == count
            told = ", ".join(f"{n} {name}" for name, n in left.most_common())
            print(f"{what:<34}{count:>6}{survived:>10}   {told}", flush=True)
        sizes = [path.stat().st_size for path in folder.glob("*.tmp")]
    print(f"unfinished *.tmp, harmless: {len(sizes)}, {sum(sizes):,} bytes")
    outcome = "all" if all_survived else "NOT ALL"
    print(f"{time.perf_counter() - started:.0f} s; {outcome} survived")
    if not all_survived:
        sys.exit(1)


def main():
    parts = {p.__name__: p for p in (heads, seeds, experiments, speed, faults)}
    parser = train.Parser("Measure what the README quotes.")
    parser.add_argument("part", choices=parts)
    parser.add_argument("first", nargs="?", type=int, default=1000, help="first seed")
    parser.add_argument("count", nargs="?", type=int, default=20, help="how many seeds")
    flags = parser.parse_args()
    check("first", flags.first, int, 0, 10**9)
    check("count", flags.count, int, 1, 10**4)
    several = flags.part in ("heads", "seeds", "experiments")
    parts[flags.part](*((flags.first, flags.count) if several else ()))


if __name__ == "__main__":
    with train.polite():
        main()
