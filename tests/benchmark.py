"""Measures what the README quotes. Each part prints a table.

    python tests/benchmark.py heads         # five seeds, or those given: every head (1 min)
    python tests/benchmark.py experiments   # other shapes, corpora, batches (2 min)
    python tests/benchmark.py choices       # what was done for the heads, left out (2 min)
    python tests/benchmark.py speed         # against peers made from PyTorch (9 min)
    python tests/benchmark.py faults        # damaged files, killed processes (5 min)

A speed is a ratio against a peer that is measured in the same run, alternating; each
figure is a median.
"""

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


import train
from model import GPT, PADDING, GPTConfig, attention, causal_mask, softmax

# ------------------------------------------------------------------------------ heads


def trained(config=None, settings=None):
    """A trained model, its roles, its percent above the floor, and the seconds."""
    start = time.perf_counter()
    settings = settings or train.TrainConfig()
    model, held_out = train.train(config or GPTConfig(), settings)
    seconds = time.perf_counter() - start
    loss, floor = train.loss_and_floor(model)
    above = 100 * (loss / floor - 1)
    return model, train.measure(model, held_out), above, seconds


def rank(role):
    """The place of the head among all, by what its removal costs: 1 is the first."""
    return 1 + sum(cost > role.cost[role.head] for cost in role.cost)


def idle_heads(roles):
    """How many heads can be removed at no cost."""
    most = [max(costs) for costs in zip(*(role.cost for role in roles))]
    return sum(cost < train.IDLE for cost in most), min(most)


def heads(seeds=range(5)):
    """Issue by issue, seed by seed: which head serves which relation, and the proof."""
    for seed in seeds:
        settings = train.TrainConfig(seed=seed)
        model, roles, above, seconds = trained(settings=settings)
        shares = [train.share_in_language(model, temperature=t) for t in (1.0, 0.7)]
        names = train.head_names(model.config)
        print(
            f"\nseed {seed}: {above:.2f}% above the floor, {seconds:.1f} s; in the "
            f"language {shares[0]:.1%} at temperature 1, {shares[1]:.1%} at 0.7"
        )
        print(
            "  relation             head  top-1  offset  untrained  removal  place  "
            "decided  over distractors  without the head"
        )
        for r in roles:
            far = f"{r.right_far:16.1%}" if r.right_far == r.right_far else f"{'-':>16}"
            print(
                f"  {train.RELATIONS[r.name]:<20} {names[r.head]}  "
                f"{r.top1[r.head]:5.3f}  {r.offset_top1:6.2f}  {r.untrained_top1:9.2f}  "
                f"{r.cost[r.head]:7.2f}  {rank(r):5}  {r.right:7.1%}  {far}  "
                f"{r.right_without:16.1%}"
            )
        carriers = {r.name: r.head for r in roles}
        confirmed = sum(rank(r) <= 2 and r.cost[r.head] >= 0.3 for r in roles)
        idle, least = idle_heads(roles)
        print(
            f"  top-1 {sum(r.top1[r.head] >= 0.95 for r in roles)} of {len(roles)} times "
            f"≥ 0.95, at least {min(r.top1[r.head] for r in roles):.3f}; carried by "
            f"{len(set(carriers.values()))} heads, determiner and adjective by "
            f"{'two' if carriers['determiner'] != carriers['adjective'] else 'one'}; "
            f"confirmed by removal {confirmed} of {len(roles)}; idle heads {idle} "
            f"(least needed: {least:.2f} nats)",
            flush=True,
        )


def experiment(name, **change):
    """Train with one setting changed, seed 0, and print its line."""
    model, roles, above, seconds = trained(GPTConfig(**change))
    good = sum(r.top1[r.head] >= 0.95 for r in roles)
    count = sum(p.numel() for p in model.parameters())
    print(
        f"  {name:<17} {count:10,}  {seconds:7.1f}  {above:14.2f}%  "
        f"{good:10} of {len(roles)}  {idle_heads(roles)[0]:4}",
        flush=True,
    )


def experiments():
    """Other shapes of the model, other corpora, and batches that do not grow."""
    print(
        f"  {'change':<17} parameters  seconds  above the floor  relations ≥ 0.95  idle"
    )
    train.train(GPTConfig(), train.TrainConfig(steps=100))  # only to warm up
    experiment("the default")
    for field, values in (
        ("n_head", (1, 2, 8)),
        ("n_layer", (2, 3)),
        ("n_embd", (16, 64)),
    ):
        for value in values:
            experiment(f"{field} {value}", **{field: value})
    even, growing = train.spread, train.schedule

    def shuffled(count, seed):
        return random.Random(0).sample(even(count, seed), count)

    def whole(step, settings):
        rate, _ = growing(step, settings)
        return rate, settings.batch_size

    for name, function, instead in (
        ("corpus shuffled", "spread", shuffled),
        ("corpus random", "spread", train.sample),
        ("batches whole", "schedule", whole),
    ):
        with patch.object(train, function, instead):
            experiment(name)


def choices():
    """The two choices made for the heads, each left out in turn: how many relations have
    a head that is right in 0.95, on the seeds that they were tuned on and on others."""
    own = train.optimizers

    def orthogonal(gpt, learning_rate):
        muon, adam = own(gpt, learning_rate)
        for group in muon.param_groups:
            group["ns_steps"] = muon.defaults["ns_steps"]
        return muon, adam

    print(f"  {'seeds':<29}  0 to 4   5 to 9   idle heads")
    for name, changed, instead in (
        ("both", "train.optimizers", own),
        ("queries and keys as the rest", "train.optimizers", orthogonal),
        ("queries start with zeros", "model.QUERY_BIAS_STD", 0.0),
    ):
        with patch(changed, instead):
            told = [trained(settings=train.TrainConfig(seed=s))[1] for s in range(10)]
        good = [sum(r.top1[r.head] >= 0.95 for r in roles) for roles in told]
        idle = sum(idle_heads(roles)[0] for roles in told)
        print(f"  {name:<29} {sum(good[:5]):7} {sum(good[5:]):8} {idle:12}", flush=True)


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

    def loss(self, ids, targets):
        T = ids.size(1)
        x = self.token(ids) + self.position.weight[:T]  # (B, T, n_embd)
        mask = nn.Transformer.generate_square_subsequent_mask(T)
        x = self.layers(x, mask=mask, is_causal=True)
        logits = self.norm(x) @ self.token.weight.T  # (B, T, vocab_size)
        return F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING
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


def training_step():
    """Tokens a second, padding not counted, with the same optimiser for both."""
    config, settings = GPTConfig(), train.TrainConfig()
    batch_size = settings.batch_size
    corpus = train.sample(30 * batch_size, 0)
    ids, targets = train.tensors(corpus, config.block_size)

    def steps(model):
        optimizer = train.AdamW(model.parameters(), lr=1e-3, fused=True)
        model.train()

        def run():
            for part in zip(ids.split(batch_size), targets.split(batch_size)):
                model.loss(*part).backward()
                optimizer.step()
                optimizer.zero_grad()

        return run

    tokens = (targets != PADDING).sum().item()
    ours, peer = medians(steps(GPT(config)), steps(Peer(config)), repeats=15)
    line(
        "training step, tokens/s",
        f"{tokens / ours:,.0f}",
        f"{tokens / peer:,.0f}",
        f"{peer / ours:.2f}",
        "≥ 1.3",
    )


class Reached(Exception):
    """The loss is within 1% of the floor."""


def seconds_to_one_percent(run):
    """How long a training takes until its held-out loss is 1% above the floor."""
    start = time.perf_counter()

    def watch(model, moment):
        if moment.above <= 1:
            raise Reached

    try:
        run(watch)
    except Reached:
        return time.perf_counter() - start
    return math.inf


def common_recipe(watch, steps=6000, warm_up=100):
    """What most people start from: AdamW, 1e-3, cosine, batches of 64, two layers."""
    config = GPTConfig(n_layer=2, n_embd=64)
    torch.manual_seed(0)
    model = GPT(config).train()
    corpus = train.sample(40000, 0)
    fresh = train.HeldOut(12, count=1024)
    ids, targets = train.tensors(corpus, 12)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1
    )
    for step in range(steps):
        if step % 50 == 0:
            held = train.loss_of(model, fresh.ids, fresh.targets)
            watch(model, train.Moment(step, held, held, fresh.floor(), 0.0))
        done = max(0, step - warm_up) / (steps - warm_up)
        rate = min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        batch = torch.randint(len(ids), (64,))
        model(ids[batch], targets[batch])[1].backward()
        optimizer.step()
        optimizer.zero_grad()


def time_to_one_percent(repeats=3):
    """The default recipe, shortened so that it just gets there, against the common one."""
    settings = train.TrainConfig(steps=250, eval_every=25)
    ours, peer = [], []
    for _ in range(repeats):
        ours.append(
            seconds_to_one_percent(lambda w: train.train(GPTConfig(), settings, w))
        )
        peer.append(seconds_to_one_percent(common_recipe))
    a, b = statistics.median(ours), statistics.median(peer)
    line("time to 1% above the floor, s", f"{a:.1f}", f"{b:.1f}", f"{b / a:.1f}", "≥ 5")


@torch.no_grad()
def maps():
    """The maps of 1,000 sentences: our heads against nn.MultiheadAttention's.

    Ours stop where the maps are made, as `attention_maps` does in the last layer; the
    peer has no such way."""
    config = GPTConfig()
    ours = GPT(config).eval().blocks[0].attention
    peer = nn.MultiheadAttention(config.n_embd, config.n_head, batch_first=True).eval()
    x, blocked = torch.randn(1000, 12, config.n_embd), ~causal_mask(12)
    a, b = medians(
        lambda: [ours.weights(x) for _ in range(5)],
        lambda: [
            peer(x, x, x, attn_mask=blocked, average_attn_weights=False)
            for _ in range(5)
        ],
        repeats=15,
    )
    line(
        "maps of 1,000 sentences, ms",
        f"{200 * a:.1f}",
        f"{200 * b:.1f}",
        f"{b / a:.2f}",
        "≥ 1",
    )


def formula():
    """The formula as it is written in model.py against PyTorch's fused kernel, forward
    and backward: the kernel is left out where it is slower, up to SHORT tokens."""
    scores = torch.randn(192, 4, 12, 12).where(causal_mask(12), -torch.inf)
    for what, ours, peer in (
        ("softmax", partial(softmax, scores), partial(scores.softmax, -1)),
        ("exp", lambda: torch.exp2(scores / math.log(2)), scores.exp),
    ):
        a, b = medians(ours, peer, repeats=40)
        what += " of 192 × 4 × 12 rows of 12, ms"
        line(what, f"{1000 * a:.2f}", f"{1000 * b:.2f}", f"{b / a:.2f}", "≥ 1")

    def pass_through(function, *qkv):
        y = function(*qkv)  # (B, n_head, T, head_size)
        (y.transpose(1, 2).flatten(2) * weight).sum().backward()

    for B, T, bar in ((192, 12, "≥ 1"), (72, 32, "≤ 1")):
        qkv = [torch.randn(B, T, 4, 8).transpose(1, 2) for _ in range(3)]
        for tensor in qkv:
            tensor.requires_grad_()
        weight = torch.randn(B, T, 32)
        ours = partial(pass_through, partial(attention_output, causal_mask(T)), *qkv)
        kernel = partial(F.scaled_dot_product_attention, is_causal=True)
        a, b = medians(ours, partial(pass_through, kernel, *qkv), repeats=40)
        what = f"attention of {B} × {T} tokens, ms"
        line(what, f"{1000 * a:.1f}", f"{1000 * b:.1f}", f"{b / a:.2f}", bar)


def rounding(side=32, calls=20):
    """A step of Muon in full precision against PyTorch's, in bfloat16."""

    def steps(muon):
        weight = nn.Parameter(torch.randn(side, side))
        weight.grad = torch.randn(side, side)
        optimizer = muon([weight])
        return lambda: [optimizer.step() for _ in range(calls)]

    a, b = medians(steps(train.Muon), steps(torch.optim.Muon), repeats=40)
    what = f"step of Muon, {side} × {side}, µs"
    a, b = 1e6 * a / calls, 1e6 * b / calls
    line(what, f"{a:.0f}", f"{b:.0f}", f"{b / a:.2f}", "≥ 1")


def attention_output(mask, q, k, v):
    return attention(q, k, v, mask)[0]


def generation():
    """1,000 sentences in one batch against one at a time."""
    model, _, _, _ = trained()
    a, b = medians(
        lambda: train.generate_many(model, 1000, seed=0),
        lambda: [train.generate(model, seed=i) for i in range(50)],
        repeats=5,
    )
    many, one = 1000 / a, 50 / b
    line(
        "generated sentences/s",
        f"{many:,.0f}",
        f"{one:,.0f}",
        f"{many / one:.0f}",
        "≥ 20",
    )


def peak_of(kind, T):
    """Peak megabytes of one training step, in a process of its own."""
    code = f"""
import sys, torch
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import train
from benchmark import Peer
from model import GPT, GPTConfig
train.use_threads()
model = {kind}(GPTConfig(block_size={T}, n_layer=4, n_embd=256)).train()
ids = torch.randint(100, (4, {T}))
def peak():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
with open("/proc/self/clear_refs", "w") as reset:
    reset.write("5")  # Linux: forget the peak of the imports
before = peak()
for _ in range(2):
    model.loss(ids, ids).backward()
print(peak() - before)
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(said.stdout)


def scale_steps(T):
    """The median seconds of a training step of T tokens: ours, and the peer's."""
    ids = torch.randint(100, (4, T))

    def trains(model):
        return lambda: model.train().loss(ids, ids).backward()

    config = GPTConfig(block_size=T, n_layer=4, n_embd=256)
    repeats = max(3, min(15, 4096 // T))
    return medians(trains(GPT(config)), trains(Peer(config)), repeats)


def exponent(lengths, values):
    """The slope of a straight line through the points on double logarithmic paper."""
    x, y = ([math.log(v) for v in row] for row in (lengths, values))
    return statistics.linear_regression(x, y).slope


def scale():
    """A training step at growing lengths: 4 layers, n_embd 256, batch of 4."""
    lengths = [64, 128, 256, 512, 1024, 2048]
    rows = [
        (*scale_steps(T), *(peak_of(kind, T) for kind in ("GPT", "Peer")))
        for T in lengths
    ]
    for T, (ours, peer, memory, their_memory) in zip(lengths, rows):
        line(
            f"step at {T} tokens, ms (peak MB)",
            f"{1000 * ours:.0f} ({memory:.0f})",
            f"{1000 * peer:.0f} ({their_memory:.0f})",
            f"{peer / ours:.2f}",
            "≥ 1",
        )
    slopes = [exponent(lengths[2:], column[2:]) for column in zip(*rows)]
    for what, ours, peer, bar in (
        ("time", *slopes[:2], ""),
        ("memory", *slopes[2:], "1"),
    ):
        what = f"growth of the {what} from 256, exponent"
        line(what, f"{ours:.2f}", f"{peer:.2f}", "", bar)


def start_up():
    """Whole processes, as multiples of `import torch`."""
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, str(ROOT / "train.py"), "--steps", "20"]
        subprocess.run(run, cwd=folder, capture_output=True, check=True)

        def process(*arguments):
            return lambda: subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
                capture_output=True,
                check=True,
            )

        torch_alone = process("-c", "import torch")
        begin = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import train"
        for what, ours, bar in (
            ("import train, s", process("-c", begin), "≤ 1.2"),
            ("python example.py, s", process(str(ROOT / "example.py")), "≤ 2.5"),
        ):
            a, b = medians(ours, torch_alone, repeats=5)
            line(what, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}", bar)


def explorer(repeats=12):
    """How soon the explorer has answered, window drawn, to what a reader does."""
    os.environ["MPLBACKEND"] = "agg"
    import attention_demo as demo

    model, held_out = train.train(GPTConfig(), train.TrainConfig(steps=100))
    window = demo.Explorer(model, train.measure(model, held_out), demo.START)
    sentences = "the hungry fox eats the mouse", "two sheep near the dog drink the milk"
    for what, act in (
        ("hover over a cell", lambda i: window.point((4 + i % 3, i % 4))),
        ("switch a head off or on", lambda i: window.boxes.set_active(i % 4)),
        ("show another sentence", lambda i: window.take(sentences[i % 2])),
    ):
        times = []
        for i in range(repeats):
            start = time.perf_counter()
            act(i)
            times.append(time.perf_counter() - start)
        line(f"{what}, ms", f"{1000 * statistics.median(times):.0f}", "", "", "≤ 200")


def speed():
    """Every line: this project, the peer, the ratio, and the bar for the ratio."""
    train.use_threads()
    line("", "Toy GPT", "peer", "ratio", "bar")
    parts = (start_up, formula, rounding, maps, training_step, generation, scale)
    for part in (*parts, time_to_one_percent, explorer):
        part()


# ----------------------------------------------------------------------------- faults

# Two models in turn, saved under one name for ever; a dot is printed before each.
SAVER = """
import itertools, sys, train
saved = [train.load_checkpoint(path) for path in sys.argv[1:3]]
settings = train.TrainConfig()
for model, held_out in itertools.cycle(saved):
    print(".", end="", flush=True)
    train.save_checkpoint("checkpoint.pt", model, held_out, settings)
"""
FLAGS = ["--steps", "40", "--sentences", "2000", "--eval_every", "10"]
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
        else:  # after the last step come the means of the heads, and the file
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
        settings = train.TrainConfig(steps=40, sentences=2000, eval_every=10)
        models = []
        for seed, name in ((1, "old.pt"), (0, "new.pt")):
            seeded = train.TrainConfig(**{**vars(settings), "seed": seed})
            model, held_out = train.train(GPTConfig(), seeded)
            train.save_checkpoint(folder / name, model, held_out, seeded)
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


if __name__ == "__main__":
    parts = {
        part.__name__: part for part in (heads, experiments, choices, speed, faults)
    }
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("seeds", nargs="*", type=int, help="of heads; 0 to 4 if none")
    flags = parser.parse_args()
    if flags.seeds and flags.part != "heads":
        parser.error("only heads takes seeds")
    parts[flags.part](*([flags.seeds] if flags.seeds else []))
