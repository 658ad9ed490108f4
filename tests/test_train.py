"""train.py: the training, what heads are found to carry, checkpoints, manners."""

import hashlib
import io
import math
import os
import signal
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import mode

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
    """A model after a few steps, and its held-out sentences."""
    return train.train(GPTConfig(), QUICK)


def random_model(**shape):
    """A model whose heads all do something, and nothing alike."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(**shape)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def roles(default):
    return train.measure(*default)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@contextmanager
def limited(what, most):
    """Less of something than the system gives, here and in processes started here."""
    resource = pytest.importorskip("resource")  # Windows has none
    kind = getattr(resource, what)
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


# -------------------------------------------------------------------------- training


def test_the_default_model_is_near_the_floor(default):
    loss, floor = train.loss_and_floor(default[0])
    assert 0 < loss / floor - 1 < 0.006
    assert train.share_in_language(default[0]) >= 0.94
    assert train.share_in_language(default[0], temperature=0.7) >= 0.98


@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode])
def test_training_is_repeatable_and_leaves_no_trace(no_gradients, quick, two_threads):
    state = torch.get_rng_state()
    with no_gradients():  # a notebook may have set it
        again, _ = train.train(GPTConfig(), QUICK)
    for a, b in zip(quick[0].parameters(), again.parameters()):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2


def test_training_is_watched_as_often_as_is_asked():
    moments = []
    settings = TrainConfig(steps=5, batch_size=9, eval_every=2)
    train.train(GPTConfig(), settings, lambda model, moment: moments.append(moment))
    assert [moment.step for moment in moments] == [0, 2, 4, 5]
    assert moments[-1].loss < moments[0].loss


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"batch_size": 20}, {"weight_decay": 0.0}, {"learning_rate": 0.01}],
)
def test_every_setting_makes_another_model(other):
    few = {"steps": 2, "batch_size": 30}
    one, two = (
        train.train(GPTConfig(), TrainConfig(**few | changed))[0]
        for changed in ({}, other)
    )
    queries = [model.blocks[0].attention.query.weight for model in (one, two)]
    assert not torch.equal(*queries)


def test_a_seed_draws_both_the_first_weights_and_the_sentences():
    weights, unseen = [], []

    def watch(model, moment):
        if moment.step == 0:
            weights.append(model.token.weight.clone())

    for seed in (0, 1):
        settings = TrainConfig(steps=1, batch_size=500, seed=seed)
        _, held_out = train.train(GPTConfig(), settings, watch)
        unseen.append(held_out.unseen)
    assert unseen[0] != unseen[1] and not torch.equal(*weights)


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


def test_held_out_sentences_are_all_that_were_not_in_training(monkeypatch):
    seen, spread = set(), train.spread

    def learnt(*given):
        seen.update(corpus := spread(*given))
        return corpus

    monkeypatch.setattr(train, "spread", learnt)
    _, held_out = train.train(GPTConfig(), TrainConfig(steps=2, batch_size=3000))
    drawn = {sentence.words for sentence in train.HeldOut().sentences}
    assert {s.words for s in held_out.sentences} == drawn - seen < drawn


def test_with_the_future_in_sight_the_loss_falls_below_the_floor(monkeypatch):
    monkeypatch.setattr(module, "causal_mask", lambda T: torch.ones(T, T).bool())
    moments = []
    train.train(GPTConfig(), QUICK, lambda model, moment: moments.append(moment))
    assert "BELOW the floor: it sees the future" in moments[-1].against_floor


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


# ------------------------------------------------------------------------- the heads


def test_every_relation_is_measured_on_enough_pairs(default, roles):
    assert [role.name for role in roles] == list(train.RELATIONS)
    for name, pairs in train.pairs_of(default[1]).items():
        assert len(pairs) >= 200, name
    for role in roles:
        assert role.right >= 0.9
        assert max(role.looks) > role.untrained_looks


def test_most_relations_have_a_head_that_looks_at_the_right_word(roles):
    found = [role.name for role in roles if max(role.looks) >= 0.95]
    assert len(found) >= len(roles) - 1, found


def test_looks_is_how_often_the_largest_weight_is_on_the_source(default):
    pairs = train.pairs_of(default[1], most=20)
    for some in pairs.values():
        right = []
        for pair in some:
            maps = train.inspect_attention(default[0], pair.words).weights
            right.append(maps.flatten(0, 1)[:, -1].argmax(-1) == pair.source)
        shares = torch.stack(right).float().mean(0)
        torch.testing.assert_close(train.looks_of(default[0], some), shares)


def test_every_figure_of_a_role_is_what_it_says(default, roles):
    """All but the choice of the head: of the half that was not used to choose."""
    model, held_out = default
    blank, means = train.untrained(model.config), train.mean_outputs(model, held_out)
    all_pairs = train.pairs_of(held_out)
    for role in roles:
        chosen, scored = all_pairs[role.name][::2], all_pairs[role.name][1::2]
        n, best = len(scored), train.looks_of(blank, chosen).argmax()
        back, often = ([len(w) - at for w, _, at in some] for some in (chosen, scored))
        decisions = train.patch_each_head(model, scored)
        clean, other, patched = (d.tolist() for d in decisions)
        _, _, without = train.patch_each_head(model, scored, means)
        wanted = {
            "count": n,
            "looks": train.looks_of(model, scored).tolist(),
            "carries": train.shares_of(*decisions),
            "flips": [sum(c > 0 > p for c, p in zip(clean, r)) / n for r in patched],
            "removal": [1 - sum(row) / sum(clean) for row in without.tolist()],
            "right": sum(c > 0 > o for c, o in zip(clean, other)) / n,
            "offset_looks": often.count(mode(back)) / n,
            "untrained_looks": train.looks_of(blank, scored)[best].item(),
        }
        for name, value in wanted.items():
            assert getattr(role, name) == pytest.approx(value, abs=1e-4), name


def test_the_main_carrier_is_chosen_on_the_half_that_is_not_scored():
    model, found = random_model(), train.pairs_of(FEW)["subject → verb"]
    shares = [train.shares_of(*train.patch_each_head(model, [pair])) for pair in found]
    carriers = [some.index(max(some)) for some in shares]
    i = next(i for i, head in enumerate(carriers) if head != carriers[0])
    means = train.mean_outputs(model, FEW)
    for chosen, scored in (0, i), (i, 0):
        pairs = [found[chosen], found[scored]]
        role = train.role_of("subject → verb", pairs, model, model, means)
        assert role.head == carriers[chosen]
        assert role.carries == pytest.approx(shares[scored], rel=1e-3, abs=1e-3)


def test_the_mean_of_a_head_is_over_words_not_over_what_fills_up():
    model, held_out = random_model(n_layer=2), train.HeldOut(count=100)
    outputs = [
        model.head_outputs(train.as_ids(sentence.words[:-1]))
        for sentence in held_out.sentences
    ]
    for layer, mean in enumerate(train.mean_outputs(model, held_out)):
        said = torch.cat([output[layer][0] for output in outputs], dim=1)  # (n_head, …)
        torch.testing.assert_close(mean[0, :, 0], said.mean(1), atol=1e-4, rtol=1e-4)


def test_in_a_deeper_model_each_layer_is_patched_by_its_own():
    model = random_model(n_layer=2, n_head=2)
    pair = train.pairs_of(FEW)["subject → verb"][0]
    own, other = ([IDS[w] for w in side] for side in train.apart(*pair[:2]))
    given = model.head_outputs(train.as_ids(pair.swapped))
    decisions = []
    for layer, head in (0, 0), (0, 1), (1, 0), (1, 1):
        with model.patch_heads({(layer, head): given[layer][:, head]}):
            row = model(train.as_ids(pair.words))[0][0, -1]
        decisions.append(row[own].logsumexp(0) - row[other].logsumexp(0))
    _, _, patched = train.patch_each_head(model, [pair])
    torch.testing.assert_close(patched[:, 0], torch.stack(decisions))


@pytest.mark.parametrize(
    ("right", "carries", "known", "shared"),
    [
        (0.51, 0.51, True, False),
        (0.49, 0.90, False, True),
        (0.51, 0.49, True, True),
        (0.90, math.nan, False, True),
    ],
)
def test_what_is_known_and_what_is_shared(right, carries, known, shared, roles):
    role = roles[0]._replace(head=0, right=right, carries=[carries])
    assert (role.known, role.shared) == (known, shared)


def test_no_pair_is_measured_twice():
    for pairs in train.pairs_of(FEW).values():
        assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs)


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
    model = random_model()
    heads, size = model.blocks[0].attention, model.config.n_embd // model.config.n_head
    with torch.no_grad():
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


# ------------------------------------------------------------------------- the words


@pytest.mark.parametrize(
    "words", [None, 5, "the cat", [], ["the"], ["<s>"] + ["the"] * 12]
)
def test_words_that_cannot_be_are_not_expected(words, default):
    with pytest.raises(Mistake):
        train.expect(default[0], words)


def test_the_first_word_is_expected_too(default):
    chances = train.expect(default[0], [train.BEGIN])
    assert sum(chances.values()) == pytest.approx(1, abs=1e-4)


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
    "look",
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
def test_a_wrong_shape_is_never_answered(look, quick):
    with pytest.raises(Mistake):
        look(quick[0])


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


# -------------------------------------------------------------------- the checkpoint


def test_a_checkpoint_gives_the_same_model_back(quick, tmp_path):
    train.save_checkpoint(tmp_path / "own.pt", *quick)
    model, held_out = train.load_checkpoint(tmp_path / "own.pt")
    for a, b in zip(quick[0].parameters(), model.parameters()):
        assert torch.equal(a, b)
    assert held_out.sentences == quick[1].sentences


def test_whoever_may_read_other_files_may_read_a_checkpoint(quick, tmp_path):
    train.save_checkpoint(tmp_path / "own.pt", *quick)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_disk_that_is_full_leaves_the_old_checkpoint(quick, tmp_path):
    path = tmp_path / "own.pt"
    path.write_bytes(b"old")
    too_large = pytest.raises(Mistake, match="can't write .*own.pt.*too large")
    with limited("RLIMIT_FSIZE", 9999), too_large:  # of a file, in bytes
        train.save_checkpoint(path, *quick)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["own.pt"])


def test_the_first_run_trains_a_model_and_keeps_it(
    quick, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", lambda *_: quick)
    train.load()
    assert "No checkpoint.pt yet: training" in capsys.readouterr().err
    monkeypatch.setattr(train, "train", None)  # nothing may be trained
    again = train.load_model()
    assert torch.equal(again.token.weight, quick[0].token.weight)
    assert capsys.readouterr().err == ""


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"config": Code()}, file := io.BytesIO())
    checksum = hashlib.sha256(file.getvalue()).digest()
    (tmp_path / "own.pt").write_bytes(file.getvalue() + checksum)
    with pytest.raises(Mistake, match="not a checkpoint of Toy GPT"):
        train.load_checkpoint(tmp_path / "own.pt")
    assert os.listdir(tmp_path) == ["own.pt"]


def test_loading_leaves_the_random_state_alone(quick, tmp_path):
    path = str(tmp_path / "own.pt")
    train.save_checkpoint(path, *quick)
    state = torch.get_rng_state()
    train.load_model(path)
    assert torch.equal(torch.get_rng_state(), state)


def test_loading_leaves_the_threads_alone(quick, tmp_path, two_threads):
    path = str(tmp_path / "own.pt")
    train.save_checkpoint(path, *quick)
    for load in (train.load_model, train.load, train.load_checkpoint):
        load(path)
        assert torch.get_num_threads() == 2


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


def test_a_checkpoint_of_another_formula_is_refused(quick, tmp_path, monkeypatch):
    train.save_checkpoint(tmp_path / "own.pt", *quick)
    full = module.causal_mask
    monkeypatch.setattr(module, "causal_mask", lambda T: full(T).triu(-1))
    with pytest.raises(Mistake, match="another model.py"):
        train.load_checkpoint(tmp_path / "own.pt")


def test_a_checkpoint_of_another_language_is_refused(quick, tmp_path, edited):
    train.save_checkpoint(tmp_path / "own.pt", *quick)

    def quality(s):  # a chance is another, by one in a thousand
        yield 0.031, train.QUALITIES, s.before_noun(train.colour)
        yield 0.969, train.NOTHING, s.then(train.colour)

    edited("quality", quality)
    with pytest.raises(Mistake, match="another language"):
        train.load_checkpoint(tmp_path / "own.pt")


def test_a_checkpoint_of_renamed_words_is_refused(quick, tmp_path, monkeypatch):
    train.save_checkpoint(tmp_path / "own.pt", *quick)
    words = ["lion" if word == "cat" else word for word in train.VOCABULARY]
    monkeypatch.setattr(train, "VOCABULARY", words)
    with pytest.raises(Mistake, match="another language"):
        train.load_checkpoint(tmp_path / "own.pt")


DAMAGED = {
    "empty": lambda whole: b"",
    "text": lambda whole: b"Once upon a time\n" * 99,
    "zip": lambda whole: b"PK\x03\x04" + bytes(500),
    "truncated": lambda whole: whole[: len(whole) // 2],
    "short of a byte": lambda whole: whole[:-1],
    "changed": lambda whole: whole[:5000] + bytes(99) + whole[5099:],
    "zeros": lambda whole: bytes(len(whole)),
}
OTHERS = {  # what is made of the path, and what is said of it
    "directory": (Path.mkdir, "Is a directory"),
    "link to nowhere": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "missing folder": (lambda path: path.parent.rmdir(), "No such file"),
    "file below a file": (
        lambda path: (path.parent.rmdir(), path.parent.touch()),
        "Not a directory",
    ),
    "other program": (
        lambda path: torch.save({"weights": torch.zeros(3)}, path),
        "not a checkpoint of Toy GPT",
    ),
}


def said_of(path):
    """The line that refuses a checkpoint."""
    with pytest.raises(Mistake) as refusal:
        train.load(path)
    told = str(refusal.value)
    assert path.name in told and '"python train.py" makes a new one, --out' in told
    assert told.isprintable()  # so it is one line
    return told


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_checkpoint_is_refused_in_one_line(damage, quick, tmp_path):
    path = tmp_path / "own.pt"
    train.save_checkpoint(path, *quick)
    path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in said_of(path)


@pytest.mark.parametrize(("make", "said"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_checkpoint_is_refused_in_one_line(make, said, tmp_path):
    path = tmp_path / "there" / "own.pt"
    path.parent.mkdir()
    make(path)
    assert said in said_of(path)


def test_an_unreadable_checkpoint_is_refused_in_one_line(tmp_path):
    path = tmp_path / "own.pt"
    path.touch(mode=0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    assert "Permission denied" in said_of(path)


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


def test_what_training_reports_is_true(default, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *_: default)
    _, out, _ = call(tmp_path, train, "--out", "own.pt")
    model = train.load_model(tmp_path / "own.pt")
    loss, floor = train.loss_and_floor(model)
    calm, calmer = (train.share_in_language(model, temperature=t) for t in (1.0, 0.7))
    for said in (
        f"Loss on random sentences: {loss:.4f} nats",
        f"The floor is {floor:.4f}",
        f"model is {100 * (loss / floor - 1):.2f}% above the floor",
        f"{calm:.1%} of 1,000 sentences sampled at temperature 1, {calmer:.1%} at 0.7",
        "python example.py --checkpoint own.pt",
    ):
        assert said in out


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


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (["train.py", "--steps", "many"], "'many'"),
        (["example.py", "the foxx"], '"foxx" is not among'),
        (["attention_demo.py", "--format", "bmp"], "'bmp'"),
    ],
)
def test_a_process_refuses_in_one_line(script, said, tmp_path):
    refused(script[0], finish(start(tmp_path, *script)), said)
    assert not os.listdir(tmp_path)


def test_a_model_that_is_too_large_for_the_memory_is_told_in_one_line(tmp_path):
    shape = "--n_embd", "1000000", "--vocab_size", "1000000"  # four terabytes
    with limited("RLIMIT_AS", 2**40):
        result = finish(start(tmp_path, "train.py", *shape))
    refused("train.py", result, "too large for this machine's memory")


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
    while process.poll() is None and "libtorch" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, _, error = finish(process)
    assert status in (130, -signal.SIGINT)
    assert "Traceback" not in error and error.count("stopped") <= 1
