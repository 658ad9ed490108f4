"""Measures what the README quotes. Each part prints a table.

    python tests/benchmark.py heads 9800 20      # twenty seeds from 9800: every head (4 min)
    python tests/benchmark.py seeds 9800 20      # the same: floor, in the language (4 min)
    python tests/benchmark.py experiments 9800 5 # other shapes and recipes (8 min)
    python tests/benchmark.py speed              # against peers made from PyTorch (4 min)
    python tests/benchmark.py faults             # damaged files, killed processes (2 min)

A speed is a ratio against a peer that is measured in the same run, alternating; each
figure is a median.
"""

import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    """A trained model, and what there is to say of it."""

    def __init__(self, config=None, **settings):
        start = time.perf_counter()
        settings = train.TrainConfig(**settings)
        self.model, self.held_out = train.train(config or GPTConfig(), settings)
        self.seconds = time.perf_counter() - start
        loss, floor = train.loss_and_floor(self.model)
        self.above = 100 * (loss / floor - 1)
        self.roles = train.measure(self.model, self.held_out)

    def shares(self):
        """The main carrier's share of each relation; of what the model does not know,
        none."""
        return [role.carries[role.head] if role.known else 0.0 for role in self.roles]

    def looking(self):
        """How many relations have a head that looks at the right word, 95 in 100."""
        return sum(max(role.looks) >= 0.95 for role in self.roles)

    def agreeing(self):
        """How many main carriers look right themselves, or best."""
        return sum(
            r.looks[r.head] >= 0.95 or r.looks[r.head] == max(r.looks)
            for r in self.roles
        )

    def idle(self):
        """How many heads carry less than 5% of every relation."""
        by_head = zip(*(role.carries for role in self.roles if role.known))
        return sum(max(shares) < 0.05 for shares in by_head)


def heads(first, count):
    """For each seed and relation the main carrier: its name, what it carries / looks."""
    print(f"{'seed':>5}  " + "  ".join(f"{name:>18}" for name in train.RELATIONS))
    shares, looking, agreeing, carriers, right = [], [], [], [], []
    for seed in range(first, first + count):
        t = Trained(seed=seed)
        names = train.head_names(t.model.config)
        cells = [
            f"{names[r.head]} {share:.2f} / {r.looks[r.head]:.2f}"
            for r, share in zip(t.roles, t.shares())
        ]
        print(f"{seed:>5}  " + "  ".join(f"{cell:>18}" for cell in cells), flush=True)
        shares.append(t.shares())
        looking.append(t.looking())
        agreeing.append(t.agreeing())
        carriers.append(len({role.head for role in t.roles}))
        right.append(min(role.right for role in t.roles))
    for what, pick in (("mean", statistics.mean), ("worst", min)):
        cells = [f"{pick(column):.2f}" for column in zip(*shares)]
        print(f"{what:>5}  " + "  ".join(f"{cell:>18}" for cell in cells))
    everything = len(train.RELATIONS) * count
    flat = [share for row in shares for share in row]
    print(f"mean share of the main carrier: {statistics.mean(flat):.3f}")
    print(f"a head looks right in 95%: {sum(looking)} of {everything}")
    print(f"the main carrier does, or looks best: {sum(agreeing)} of {everything}")
    print(f"heads that carry a relation: {carriers}")
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
        print(f"{seed:>5}  " + "  ".join(f"{x:8.2f}" for x in rows[-1]), flush=True)
    above, at_1, at_07, seconds = zip(*rows)
    print(" mean  " + "  ".join(f"{statistics.mean(x):8.2f}" for x in zip(*rows)))
    worst = max(above), min(at_1), min(at_07), max(seconds)
    print("worst  " + "  ".join(f"{x:8.2f}" for x in worst))


def experiments(first, count):
    """Other shapes and recipes: what they cost, and what becomes of the heads. A line is
    the mean of these seeds; worst is the farthest above the floor."""
    seeds = range(first, first + count)
    print(
        f"{'':<22}{'parameters':>11}{'seconds':>9}{'above, %':>10}{'worst':>7}"
        f"{'looks':>7}{'share':>7}{'idle':>6}"
    )
    experiment(seeds, "the default")
    for n_head in (1, 2):
        experiment(seeds, f"n_head {n_head}", GPTConfig(n_head=n_head))
    experiment(seeds, "n_head 8, n_embd 40", GPTConfig(n_head=8, n_embd=40))
    for n_layer in (2, 3):
        experiment(seeds, f"n_layer {n_layer}", GPTConfig(n_layer=n_layer))
    for n_embd in (16, 64):
        experiment(seeds, f"n_embd {n_embd}", GPTConfig(n_embd=n_embd))
    experiment(seeds, "dropout 0.1", GPTConfig(dropout=0.1))
    experiment(seeds, "weight decay 0", weight_decay=0.0)
    mask, attention = gpt.causal_mask, gpt.attention
    gpt.attention = lambda q, *rest: attention(q * math.sqrt(q.size(-1)), *rest)
    experiment(seeds, "no scale")
    gpt.attention = attention
    gpt.causal_mask = lambda T: mask(T).triu(-1)
    experiment(seeds, "a mask of two words")
    gpt.causal_mask = mask


def experiment(seeds, name, config=None, **settings):
    """One line of the table of experiments."""
    rows = []
    for seed in seeds:
        t = Trained(config, seed=seed, **settings)
        share = statistics.mean(t.shares())
        rows.append((t.seconds, t.above, t.looking(), share, t.idle()))
    seconds, above, looks, share, idle = (statistics.mean(row) for row in zip(*rows))
    worst, count = (
        max(row[1] for row in rows),
        sum(p.numel() for p in t.model.parameters()),
    )
    print(
        f"{name:<22}{count:>11,}{seconds:>9.0f}{above:>10.2f}{worst:>7.2f}"
        f"{looks:>7.1f}{share:>7.2f}{idle:>6.1f}",
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


def line(what, ours, peer, ratio, bar):
    """One line of the table of speeds."""
    print(f"  {what:<38} {ours:>14} {peer:>14} {ratio:>7} {bar:>9}", flush=True)


class Reached(Exception):
    """The loss is within 1% of the floor."""


def seconds_to_one_percent(run):
    """How long a training takes until its held-out loss is 1% above the floor."""
    start = time.perf_counter()

    def watch(model, moment):
        if moment.loss <= 1.01 * moment.floor:
            raise Reached

    try:
        run(watch)
    except Reached:
        return time.perf_counter() - start
    return math.inf


def common_recipe(watch, steps=6000, warm_up=100):
    """What most people start from: AdamW, 1e-3, cosine, batches of 64, two layers."""
    config = GPTConfig(n_layer=2, n_head=4, n_embd=64)
    torch.manual_seed(0)
    model = GPT(config).train()
    corpus = [s.words for s in train.sample(40000, "common")]
    ids, targets = train.tensors(corpus)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1
    )
    for step in range(steps):
        if step % 50 == 0:
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
    line("training step, ms", *milliseconds, f"{peer / ours:.2f}", "≥ 1")


def time_to_one_percent(repeats=1):
    """The default recipe as it is against the common one."""
    settings = train.TrainConfig(eval_every=25)
    ours, peer = [], []
    for _ in range(repeats):
        ours.append(
            seconds_to_one_percent(lambda w: train.train(GPTConfig(), settings, w))
        )
        peer.append(seconds_to_one_percent(common_recipe))
    a, b = statistics.median(ours), statistics.median(peer)
    line("time to 1% above the floor, s", f"{a:.1f}", f"{b:.1f}", f"{b / a:.1f}", "≥ 5")


def start_up():
    """Whole processes, as multiples of `import torch`."""
    with tempfile.TemporaryDirectory() as folder:

        def process(*arguments):
            command = [sys.executable, *arguments]
            return lambda: subprocess.run(
                command, cwd=folder, capture_output=True, check=True
            )

        def anew():
            Path(folder, "checkpoint.pt").unlink(missing_ok=True)
            example()

        torch_alone = process("-c", "import torch")
        example = process(str(ROOT / "example.py"))
        begin = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import train"
        for what, ours, bar, repeats in (
            ("import train, s", process("-c", begin), "≤ 1.2", 5),
            ("python train.py, s", process(str(ROOT / "train.py")), "≤ 8", 3),
            ("python example.py from nothing, s", anew, "≤ 8", 3),
            ("python example.py, s", example, "≤ 2.5", 5),
            (
                "attention_demo.py, s",
                process(str(ROOT / "attention_demo.py")),
                "≤ 8",
                1,
            ),
        ):
            a, b = medians(ours, torch_alone, repeats)
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
    """From a click in assets/explorer.html to the changed page."""
    from conftest import open_browser

    browser = open_browser()
    try:
        browser.get((ROOT / "assets" / "explorer.html").as_uri())
        spent = statistics.median(browser.execute_script(CLICKS))
    finally:
        browser.quit()
    line("a click in the page, ms", f"{spent:.0f}", "", "", "≤ 50")


def speed():
    """Every line: this project, the peer, the ratio, and the bar for the ratio."""
    line("", "Toy GPT", "peer", "ratio", "bar")
    for part in (start_up, training_step, page, time_to_one_percent):
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
FLAGS = ["--steps", "40", "--eval_every", "10"]
TRAINING = [sys.executable, ROOT / "train.py", *FLAGS]


def damaged(data, rng):
    """A copy that is cut somewhere, or has some bytes changed."""
    data = bytearray(data)
    if rng.random() < 0.5:
        return data[: rng.randrange(len(data))]
    for _ in range(rng.choice((1, 1, 4, 64))):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    return data


def fate(path, *models):
    """What loading gives: "refused", "wrong", or the number of the identical model."""
    try:
        state = train.load_checkpoint(path)[0].state_dict()
    except train.Mistake:
        return "refused"
    for number, model in enumerate(models):
        same = (torch.equal(state[name], t) for name, t in model.state_dict().items())
        if all(same):
            return number
    return "wrong"


def kill_saving(folder, models, rng, kills):
    """Kill a process that does nothing but save; yields what is left each time."""
    command = [sys.executable, "-c", SAVER, "old.pt", "new.pt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(kills):
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE
        )
        process.stdout.read(2)  # it has saved once, and saves now
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        yield fate(folder / "checkpoint.pt", *models)


def kill_training(folder, old, models, rng, kills):
    """Kill whole trainings, most of them when they save; yields what is left."""
    for kill in range(kills):
        train.write(folder / "checkpoint.pt", old)
        process = subprocess.Popen(
            TRAINING, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if kill % 4 == 0:
            time.sleep(rng.uniform(0, 4))
        else:  # after the last step comes the file
            while not process.stderr.readline().startswith(b"step    40"):
                assert process.poll() is None, "the training has failed"
            time.sleep(rng.uniform(0, 0.15))
        process.kill()
        process.communicate()
        yield fate(folder / "checkpoint.pt", *models)


def faults(copies=200, saves=50, trainings=8):
    """Damage and kill: no checkpoint may be loaded wrong, none may be lost."""
    rng, started = random.Random(0), time.perf_counter()
    rows = []

    def report(what, tried, survived, detail):
        rows.append(tried == survived)
        print(f"{what:<34}{tried:>6}{survived:>10}   {detail}", flush=True)

    def progress(what, done, count):
        if sys.stderr.isatty():
            print(f"{what}: {done} of {count}", end="\r", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = train.TrainConfig(steps=40, eval_every=10)
        models = []
        for seed, name in ((1, "old.pt"), (0, "new.pt")):
            seeded = train.TrainConfig(**{**vars(settings), "seed": seed})
            model, held_out = train.train(GPTConfig(), seeded)
            train.save_checkpoint(folder / name, model, held_out)
            models.append(model)
        old = (folder / "old.pt").read_bytes()
        target = folder / "checkpoint.pt"
        print(f"{'fault':<34}{'tried':>6}{'survived':>10}   what was left")

        fates = []
        for copy in range(1, copies + 1):
            target.write_bytes(damaged(old, rng))
            fates.append(fate(target, models[0]))
            progress("damaged copies", copy, copies)
        refused, same = fates.count("refused"), fates.count(0)
        wrong = copies - refused - same
        detail = f"{refused} refused, {same} identical in weights, {wrong} wrong"
        report("a checkpoint cut or changed", copies, refused + same, detail)

        train.write(target, old)
        fates = []
        for left in kill_saving(folder, models, rng, saves):
            fates.append(left)
            progress("killed while saving", len(fates), saves)
        whole = fates.count(0) + fates.count(1)
        detail = f"{fates.count(0)} times the old file, {fates.count(1)} the new one"
        report("SIGKILL while saving", saves, whole, detail)

        fates = []
        for left in kill_training(folder, old, models, rng, trainings):
            fates.append(left)
            progress("killed while training", len(fates), trainings)
        whole = fates.count(0) + fates.count(1)
        detail = f"{fates.count(0)} times the old file, {fates.count(1)} the new one"
        report("SIGKILL while training", trainings, whole, detail)

        stale = sorted(folder.glob("*.tmp"))
        size = sum(path.stat().st_size for path in stale)
        train.write(target, old)
        run = subprocess.run(TRAINING, cwd=folder, capture_output=True, check=False)
        worked = run.returncode == 0 and fate(target, *models) == 1
        detail = f"{len(stale)} unfinished *.tmp beside it, {size:,} bytes, harmless"
        report("the next training", 1, int(worked), detail)
    outcome = "all" if all(rows) else "NOT ALL"
    print(f"{time.perf_counter() - started:.0f} s; {outcome} survived")
    return all(rows)


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
