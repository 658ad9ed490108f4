"""train.py: the training, what heads are found to carry, checkpoints, manners."""

import math
import os
import signal
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from shared import ROOT, call, finish, refused, start

import model as module
import train
from model import GPT, GPTConfig
from train import IDS, Mistake, TrainConfig

QUICK = TrainConfig(steps=30)
FEW = train.HeldOut(count=1000)


@pytest.fixture(scope="module")
def quick():
    return train.train(GPTConfig(), QUICK)


@pytest.fixture(scope="module")
def roles(default):
    return train.measure(*default)


def test_the_default_model_is_near_the_floor(default):
    loss, floor = train.loss_and_floor(default[0])
    assert 0 < loss / floor - 1 < 0.006
    assert train.share_in_language(default[0]) >= 0.96
    assert train.share_in_language(default[0], temperature=0.7) > 0.98


@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode])
def test_training_is_repeatable_and_leaves_no_trace(no_gradients, quick):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    moments = []
    with no_gradients():  # a notebook may have set it
        again, _ = train.train(
            GPTConfig(), QUICK, lambda model, moment: moments.append(moment)
        )
    for a, b in zip(quick[0].parameters(), again.parameters()):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert [m.step for m in moments] == [0, 30] and moments[1].loss < moments[0].loss


def test_training_moves_every_matrix(quick):
    start = train.untrained(GPTConfig(), QUICK.seed)  # the same draw as in training
    for (name, p), q in zip(start.named_parameters(), quick[0].parameters()):
        assert p.dim() < 2 or (p - q).norm() > 0.1 * p.norm(), name


def test_watching_with_everything_changes_nothing():
    def watch(model, moment):
        train.generate(model)
        train.inspect_attention(model, "the cat")
        model.attention_maps(torch.tensor([[0, 1]]))

    config, settings = GPTConfig(dropout=0.1), TrainConfig(steps=12, eval_every=5)
    alone, _ = train.train(config, settings)
    watched, _ = train.train(config, settings, watch)
    for a, b in zip(alone.parameters(), watched.parameters()):
        assert torch.equal(a, b)


def test_held_out_sentences_were_not_in_training(default):
    settings = TrainConfig()
    corpus = train.spread(settings.steps * settings.batch_size, "corpus 0")
    seen = set(corpus)
    assert len(default[1].sentences) > 1000
    assert not seen & {s.words for s in default[1].sentences}


def test_an_edited_mask_makes_training_worse(monkeypatch):
    config, settings = GPTConfig(dropout=0.1), TrainConfig(steps=120)
    whole, _ = train.loss_and_floor(train.train(config, settings)[0])
    monkeypatch.setattr(
        module, "causal_mask", lambda T: torch.ones(T, T).tril().triu(-1).bool()
    )
    short, _ = train.loss_and_floor(train.train(config, settings)[0])
    assert short > 1.03 * whole


def test_a_row_that_sees_nothing_is_said(monkeypatch):
    monkeypatch.setattr(
        module, "causal_mask", lambda T: torch.ones(T, T).tril(-1).bool()
    )
    with pytest.raises(Mistake, match="model.py causal_mask lets a row see nothing"):
        train.train(GPTConfig(), QUICK)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (0.5, "66.67% BELOW the floor: it sees the future"),
        (1.515, "1.00% above"),
        (1.4999, "0.00%"),
    ],
)
def test_a_loss_is_told_against_the_floor(loss, said):
    assert train.Moment(0, loss, 1.5).against_floor.startswith(said)


# ----------------------------------------------------------------------------- proof


def test_every_relation_is_measured_on_enough_pairs(default, roles):
    assert [role.name for role in roles] == list(train.RELATIONS)
    for name, pairs in train.pairs_of(default[1]).items():
        assert len(pairs) >= 200, name
    for role in roles:
        assert role.right >= 0.99
        assert max(role.looks) > role.untrained_looks


def test_most_relations_have_a_head_that_looks_at_the_right_word(roles):
    found = [role.name for role in roles if max(role.looks) >= 0.95]
    assert len(found) >= len(roles) - 1, found


def test_looks_is_how_often_the_largest_weight_is_on_the_source(default, roles):
    pairs = train.pairs_of(default[1])
    for role in roles:
        right = []
        for pair in pairs[role.name][1::2]:  # the half that was not used to choose
            maps = train.inspect_attention(default[0], pair.words).weights
            right.append(maps.flatten(0, 1)[:, -1].argmax(-1) == pair.source)
        shares = torch.stack(right).float().mean(0)
        assert role.looks == pytest.approx(shares.tolist())


@pytest.mark.parametrize(
    "words", [None, 5, "the cat", [], ["the"], ["<s>"] + ["the"] * 12]
)
def test_words_that_cannot_be_are_not_expected(words, default):
    with pytest.raises(Mistake):
        train.expect(default[0], words)


def test_the_first_word_is_expected_too(default):
    chances = train.expect(default[0], [train.BEGIN])
    assert sum(chances.values()) == pytest.approx(1, abs=1e-4)


def test_swaps_are_varied(default):
    for name, pairs in train.pairs_of(default[1]).items():
        swaps = Counter((p.words[p.source], p.swapped[p.source]) for p in pairs)
        if name != "conjunction → verb":  # it has two words
            assert max(swaps.values()) < len(pairs) / 5, name


def test_patched_together_the_heads_carry_the_whole_of_every_relation(default):
    model = default[0]

    def decided(pair, words):
        logits = model(train.as_ids(words))[0][0, -1]
        sides = train.next_words(pair.words), train.next_words(pair.swapped)
        own, other = (
            [IDS[word] for word in set(a) - set(b)] for a, b in (sides, sides[::-1])
        )
        return (logits[own].logsumexp(0) - logits[other].logsumexp(0)).item()

    for name, pairs in train.pairs_of(default[1], most=10).items():
        clean = other = patched = 0.0
        for pair in pairs:
            given = model.head_outputs(train.as_ids(pair.swapped))[0]
            heads = range(model.config.n_head)
            clean += decided(pair, pair.words)
            other += decided(pair, pair.swapped)
            with model.patch_heads({(0, head): given[:, head] for head in heads}):
                patched += decided(pair, pair.words)
        share = (clean - patched) / (clean - other)
        assert share == pytest.approx(1, abs=1e-4), name


def test_pairs_differ_in_the_source_alone_and_were_not_seen(default):
    unseen = {s.words for s in default[1].sentences}
    for pairs in train.pairs_of(default[1], most=100).values():
        for pair in pairs:
            differ = [a != b for a, b in zip(pair.words, pair.swapped, strict=True)]
            assert [i for i, d in enumerate(differ) if d] == [pair.source]
            assert any(s[: len(pair.words)] == pair.words for s in unseen)


def test_one_head_carries_what_the_table_says(default, roles):
    assert sum(not role.shared for role in roles) >= len(roles) - 2
    for role in roles:
        assert sum(role.carries) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("sight", [12, 2])
def test_all_heads_together_carry_everything(default, sight, monkeypatch):
    full = module.causal_mask
    monkeypatch.setattr(module, "causal_mask", lambda T: full(T).triu(1 - sight))
    model = default[0]
    words, swapped = "<s> the hungry fox", "<s> the sleepy fox"
    one, other = (train.as_ids(text.split()) for text in (words, swapped))
    given = model.head_outputs(other)[0]
    heads = range(model.config.n_head)
    with model.patch_heads({(0, head): given[:, head] for head in heads}):
        patched = model(one)[0][0, -1]
    torch.testing.assert_close(patched, model(other)[0][0, -1], atol=1e-5, rtol=1e-5)


def test_where_nothing_differs_the_share_is_none(default, monkeypatch):
    full = module.causal_mask
    monkeypatch.setattr(module, "causal_mask", lambda T: full(T).triu())
    for role in train.measure(default[0], FEW):
        assert all(math.isnan(share) for share in role.carries)
        assert role.shared


def test_what_the_model_does_not_know_no_head_is_said_to_carry(default, monkeypatch):
    full = module.causal_mask
    monkeypatch.setattr(module, "causal_mask", lambda T: full(T).triu(-1))
    roles = {role.name: role for role in train.measure(default[0], FEW)}
    assert not roles["subject → verb"].known and roles["subject → verb"].shared


def test_a_head_built_by_hand_is_found():
    """One head takes the mean of all words, the others give nothing."""
    torch.manual_seed(0)
    model = GPT(GPTConfig()).eval()
    heads, size = model.blocks[0].attention, model.config.n_embd // model.config.n_head
    with torch.no_grad():
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.5)
        heads.query.weight.zero_(), heads.query.bias.zero_()
        heads.value.weight[size:], heads.value.bias[size:] = 0, 0
    roles = train.measure(model, FEW)
    assert [role.name for role in roles] == list(train.RELATIONS)
    for role in roles:
        assert role.head == 0
        assert role.carries[0] == pytest.approx(1, abs=1e-3)
        assert role.carries[1:] == pytest.approx(
            [0] * (len(role.carries) - 1), abs=1e-3
        )


# ----------------------------------------------------------------------------- words


def test_generation_is_repeatable_and_begins_as_it_is_told(default):
    model = default[0]
    for prompt in ("the hungry fox", ["the", "hungry", "fox"], ("<s>", "the")):
        told = train.generate_many(model, 5, prompt, seed=3)
        assert told == train.generate_many(model, 5, prompt, seed=3)
        wanted = train.read(prompt)
        assert all(words[: len(wanted)] == wanted for words in told)
    greedy = train.generate(model, temperature=0)
    assert greedy == train.generate(model, temperature=1e-40, seed=1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 0},
        {"count": -1},
        {"count": 2.5},
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": "high"},
        {"seed": 2**70},
        {"seed": -1},
        {"prompt": "the unicorn"},
        {"prompt": 7},
    ],
)
def test_what_cannot_be_generated_is_refused(arguments, quick):
    with pytest.raises(Mistake):
        train.generate_many(quick[0], **{"count": 1, **arguments})


def test_a_larger_vocabulary_never_says_what_has_no_name():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=500)).eval()
    chances = train.expect(model, ["<s>", "the"])
    assert set(chances) == set(IDS) and sum(chances.values()) == pytest.approx(1)
    assert all(w in IDS for words in train.generate_many(model, 20) for w in words)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: train.inspect_attention(m, ["the quick fox", "the dog"]),
        lambda m: train.inspect_attention(m, ""),
        lambda m: train.inspect_attention(m, []),
        lambda m: train.inspect_attention(m, torch.tensor([1])),
        lambda m: train.inspect_attention(m, "the " * 12),
        lambda m: train.expect(m, ["the", "hungry"]),
        lambda m: train.expect(m, "the hungry"),
        lambda m: train.expect(m, []),
    ],
)
def test_a_wrong_shape_is_never_answered(call, quick):
    with pytest.raises(Mistake):
        call(quick[0])


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 2.5},
        {"steps": 0},
        {"batch_size": True},
        {"seed": -1},
        {"learning_rate": 0},
        {"learning_rate": math.nan},
        {"weight_decay": -1},
        {"learning_rate": "fast"},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(Mistake, match="it must be"):
        TrainConfig(**settings)


# ------------------------------------------------------------------------ checkpoint


def test_a_checkpoint_gives_the_same_model_back(quick, tmp_path):
    path = tmp_path / "own.pt"
    train.save_checkpoint(path, *quick)
    model, held_out = train.load_checkpoint(path)
    for a, b in zip(quick[0].parameters(), model.parameters()):
        assert torch.equal(a, b)
    assert held_out.sentences == quick[1].sentences
    assert path.stat().st_mode & 0o777 == 0o644


def test_loading_leaves_the_random_state_alone(quick, tmp_path):
    path = str(tmp_path / "own.pt")
    train.save_checkpoint(path, *quick)
    state = torch.get_rng_state()
    train.load_model(path)
    assert torch.equal(torch.get_rng_state(), state)


def test_loading_leaves_the_threads_alone(quick, tmp_path):
    path = str(tmp_path / "own.pt")
    train.save_checkpoint(path, *quick)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for load in (train.load_model, train.load, train.load_checkpoint):
            load(path)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_file_of_another_name_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", None)  # nothing may be trained
    for load in (train.load_model, train.load):
        with pytest.raises(Mistake, match="can't read mine.pt"):
            load("mine.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 31, 32, 100, -1])
def test_a_single_changed_byte_is_noticed(place, quick, tmp_path):
    path = tmp_path / "own.pt"
    train.save_checkpoint(path, *quick)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(Mistake, match="damaged"):
        train.load_checkpoint(path)


def test_torch_opens_a_checkpoint_too(quick, tmp_path):
    train.save_checkpoint(tmp_path / "own.pt", *quick)
    content = torch.load(tmp_path / "own.pt", weights_only=True)
    assert content["config"] == asdict(quick[0].config)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own
def test_a_compiled_model_is_saved_as_what_it_is(quick, tmp_path):
    model, held_out = quick
    train.save_checkpoint(tmp_path / "own.pt", torch.compile(model), held_out)
    again, _ = train.load_checkpoint(tmp_path / "own.pt")
    assert torch.equal(again.token.weight, model.token.weight)


def test_no_pair_is_measured_twice():
    for pairs in train.pairs_of(FEW).values():
        assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs)


def test_training_leaves_the_threads_as_they_were():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    train.train(GPTConfig(), train.TrainConfig(steps=1))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_a_checkpoint_of_another_formula_is_refused(quick, tmp_path, monkeypatch):
    train.save_checkpoint(tmp_path / "own.pt", *quick)
    full = module.causal_mask
    monkeypatch.setattr(module, "causal_mask", lambda T: full(T).triu(-1))
    with pytest.raises(Mistake, match="another model.py"):
        train.load_checkpoint(tmp_path / "own.pt")


def test_a_checkpoint_of_another_language_is_refused(quick, tmp_path, edited):
    train.save_checkpoint(tmp_path / "own.pt", *quick)

    def quality(s):  # a chance is another, by one in a thousand
        yield 0.031, train.SIZES, s.before_noun(train.colour)
        yield 0.069, train.COLOURS, s.before_noun(train.noun)
        yield 0.9, train.NOTHING, s.then(train.noun)

    edited("quality", quality)
    with pytest.raises(Mistake, match="another language"):
        train.load_checkpoint(tmp_path / "own.pt")


def test_a_checkpoint_of_renamed_words_is_refused(quick, tmp_path, monkeypatch):
    train.save_checkpoint(tmp_path / "own.pt", *quick)
    words = ["lion" if word == "cat" else word for word in train.VOCABULARY]
    monkeypatch.setattr(train, "VOCABULARY", words)
    with pytest.raises(Mistake, match="another language"):
        train.load_checkpoint(tmp_path / "own.pt")


def broken(kind, whole, path):
    """Put a broken checkpoint at the path."""
    if kind == "directory":
        path.mkdir()
    elif kind == "link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "other program":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "code":
        torch.save(GPTConfig(), path)
    elif kind == "file below a file":
        path.parent.rmdir()
        path.parent.touch()
    elif kind != "missing folder":
        contents = {
            "empty": b"",
            "text": b"Once upon a time\n" * 99,
            "zip": b"PK\x03\x04" + bytes(500),
            "truncated": whole[: len(whole) // 2],
            "short of a byte": whole[:-1],
            "changed": whole[:5000] + bytes(99) + whole[5099:],
            "zeros": bytes(len(whole)),
        }
        path.write_bytes(contents[kind])
    else:
        path.parent.rmdir()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "damaged"),
        ("text", "damaged"),
        ("zip", "damaged"),
        ("truncated", "damaged"),
        ("short of a byte", "damaged"),
        ("changed", "damaged"),
        ("zeros", "damaged"),
        ("code", "damaged, or not a checkpoint"),
        ("other program", "not a checkpoint of Toy GPT"),
        ("directory", "Is a directory"),
        ("link to nowhere", "No such file"),
        ("file below a file", "Not a directory"),
        ("missing folder", "No such file"),
    ],
)
def test_a_broken_checkpoint_is_refused_in_one_line(kind, said, quick, tmp_path):
    path = tmp_path / "there" / "own.pt"
    path.parent.mkdir()
    train.save_checkpoint(tmp_path / "whole.pt", *quick)
    broken(kind, (tmp_path / "whole.pt").read_bytes(), path)
    with pytest.raises(Mistake, match=said) as refused:
        train.load(path)
    told = str(refused.value)
    assert "own.pt" in told and '"python train.py" makes a new one, --out' in told
    assert told.isprintable()  # so it is one line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_checkpoint(tmp_path):
    (tmp_path / "own.pt").touch(mode=0)
    with pytest.raises(Mistake, match="Permission denied"):
        train.load(tmp_path / "own.pt")


# ------------------------------------------------------------------ the command line

LONG = "x" * 1_000_000
HUGE = "9" * 400

WHOLE = ["steps", "batch_size", "eval_every", "seed"]
SHAPE = ["vocab_size", "block_size", "n_layer", "n_head", "n_embd"]
FLOATS = ["learning_rate", "weight_decay", "dropout"]
NUMBERS = [
    *((f"--{name}", bad) for name in WHOLE + SHAPE for bad in ("-1", "nan", HUGE)),
    *((f"--{name}", "0") for name in WHOLE + SHAPE if name != "seed"),
    *((f"--{name}", str(10**9)) for name in WHOLE),
    *((f"--{n}", bad) for n in FLOATS for bad in ("nan", "inf")),
    *((f"--{n}", bad) for n in FLOATS for bad in ("-1", "high")),
]
FLAGS = [
    *((flags, flags[0].strip("-")) for flags in NUMBERS),
    (("--n_head", "3", "--n_embd", "32"), "n_embd", "n_head=3", "such as 33"),
    (("--vocab_size", "99"), "from 100 to", "vocab_size=99"),
    (("--block_size", "11"), "from 12 to", "block_size=11"),
    (("--steps", "1.5"), "steps", "1.5"),
    (("--steps", "many"), "steps", "many"),
    (("--steps", ""), "steps"),
    (("--steps", LONG), "steps"),
    (("--steps", "9" * 5000), "steps"),
    (("--steps", "1\n2"), "steps", r"1\n2"),
    (("--steps",), "steps", "expected one argument"),
    (("--seed", "20000000"), "seed=20000000"),
    (("--device", "cpu"), "--device"),
    (("--learning_rate", "0"), "learning_rate=0", "from 1e-06 to 100"),
    (("--dropout", "1"), "dropout=1"),
    (("--bogus",), "--bogus", "--help"),
    (("--n_layers", "2"), "--n_layers"),
    (("--step", "2"), "--step"),
    (("--debug=1",), "--debug"),
    (("-x",), "-x"),
    (("--no\nsuch",), "--no?such"),
    ((f"--{LONG}",), "--xxx", "--help"),
    (("word",), "word"),
]


@pytest.mark.parametrize(("flags", "said"), [(f, said) for f, *said in FLAGS])
def test_flags_that_cannot_be(flags, said, tmp_path):
    refused("train.py", call(tmp_path, train, *flags), *said)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "folder"),
        (".", "folder"),
        ("folder/", "folder"),
        ("missing/checkpoint.pt", "missing"),
        ("file/checkpoint.pt", "Not a directory"),
        ("n" * 300, "too long"),
        (LONG, "too long"),
        (os.devnull, "device"),  # which must not be replaced by a file
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_training(out, said, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    refused("train.py", call(tmp_path, train, "--out", out), said)


def test_another_shape_is_written_under_a_name_of_its_own(tmp_path):
    status, out, _ = call(tmp_path, train, "--steps", "2", "--n_head", "2")
    assert status == 0 and "n_head-2.pt" in out
    assert os.listdir(tmp_path) == ["n_head-2.pt"]
    train.load_checkpoint(tmp_path / "n_head-2.pt")


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ({}, "checkpoint.pt"),
        ({"debug": True}, "checkpoint.pt"),
        ({"n_embd": 24, "n_layer": 2}, "n_layer-2-n_embd-24.pt"),
        ({"dropout": 0.1}, "dropout-0.1.pt"),
    ],
)
def test_the_name_says_what_differs_from_the_default(shape, name):
    assert train.own_name(GPTConfig(**shape)) == name


def test_progress_is_told_a_line_at_a_time(capsys):
    for step in (0, 100):
        train.progress(None, train.Moment(step, 2.0, 1.0))
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 2) and "\r" not in told.err


def test_a_loss_that_is_no_number_leaves_the_old_checkpoint(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"old")
    flags = ["--eval_every", "1", "--learning_rate", "99", "--steps", "60"]
    status, out, error = call(tmp_path, train, *flags)
    lines = [line for line in error.splitlines() if not line.startswith("step ")]
    refused("train.py", (status, out, "\n".join(lines) + "\n"), "no longer a number")
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


# ------------------------------------------------------------------------- processes


@pytest.fixture(scope="module")
def two_trainings(tmp_path_factory):
    """Two processes that train the same at once in one folder, with other hash seeds:
    the folder, and what they say."""
    folder = tmp_path_factory.mktemp("two trainings")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import example, train; train.main()\n"
        "print(train.pairs_of(train.HeldOut(count=300)))\n"
        "print({'matplotlib', 'seaborn'} & set(sys.modules))"
    )
    both = [
        start(folder, "-c", code, "--steps", "4", PYTHONHASHSEED=seed)
        for seed in ("1", "2")
    ]
    return folder, [finish(process) for process in both]


def test_two_trainings_at_once_in_one_folder(two_trainings):
    folder, told = two_trainings
    for status, out, error in told:
        assert status == 0, error
        assert "\x1b" not in out + error and "\r" not in error
    assert told[0] == told[1]  # the hash seed changes nothing
    assert os.listdir(folder) == ["checkpoint.pt"]
    train.load_checkpoint(folder / "checkpoint.pt")


def test_nothing_is_imported_before_it_is_needed(two_trainings):
    for _, out, _ in two_trainings[1]:
        assert out.splitlines()[-1] == "set()"


@pytest.mark.parametrize("script", [["example.py", "--words"], ["model.py"]])
def test_a_full_disk_is_told_in_one_line(script, tmp_path):
    with open("/dev/full", "wb") as full:
        result = finish(start(tmp_path, *script, stdout=full))
    refused(script[0], result, "No space left")


def test_control_c_stops_training_at_once(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"old")
    process = start(tmp_path, "train.py", "--eval_every", "1", "--steps", "60")
    assert process.stderr.readline().startswith(b"step ")
    process.send_signal(signal.SIGINT)
    status, out, error = finish(process)
    lines = {line for line in error.splitlines() if line[:5] != "step "}
    assert (status, out) == (130, "")
    assert lines == {"", "train.py: stopped; no file is half written."}
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"old"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="it can't be seen")
@pytest.mark.parametrize("script", ["train.py", "example.py", "attention_demo.py"])
def test_control_c_while_torch_is_imported_ends_quietly(script, tmp_path):
    process = start(tmp_path, script)
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, _, error = finish(process)
    assert status in (130, -signal.SIGINT)
    assert "Traceback" not in error and error.count("stopped") <= 1
