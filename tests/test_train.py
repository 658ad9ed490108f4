"""Training, the checkpoint, generating, and looking inside."""

import os
import random

import pytest
import torch

import train
from model import GPT, GPTConfig
from train import HeldOut, Mistake, TrainConfig, generate, generate_many

QUICK = TrainConfig(steps=30, sentences=2000, eval_every=10)


@pytest.fixture(scope="module")
def quick():
    return train.train(GPTConfig(), QUICK)


def test_the_default_model_ends_near_the_floor_and_speaks_the_language(default):
    model, held_out = default
    unseen = train.loss_of(model, held_out.ids, held_out.targets), held_out.floor()
    for loss, floor in (train.loss_and_floor(model), unseen):
        assert floor <= loss <= 1.005 * floor
    assert train.share_in_language(model, temperature=1.0) >= 0.97
    assert train.share_in_language(model, temperature=0.7) >= 0.995


def test_every_relation_has_a_head_that_beats_its_baselines(default):
    roles = train.measure(*default)
    assert [role.name for role in roles] == list(train.RELATIONS)
    for role in roles:
        top1 = role.top1[role.head]
        assert top1 >= 0.95 and top1 > role.untrained_top1 + 0.2
        assert role.offset_top1 >= 0.8 or top1 >= role.offset_top1 + 0.2
        assert role.right >= 0.99 and role.first_top1 == 0
        assert role.count >= 100
        if role.right_far == role.right_far:  # there are distractors
            assert role.right_far >= 0.99
    heads = {role.name: role.head for role in roles}
    assert len(set(heads.values())) >= 3
    assert heads["determiner"] != heads["adjective"]


def test_removing_heads_confirms_what_they_do(default):
    roles = train.measure(*default)
    confirmed = [
        role.cost[role.head] >= 0.3 and role.cost[role.head] in sorted(role.cost)[-2:]
        for role in roles
    ]
    assert sum(confirmed) >= 5
    for costs in zip(*(role.cost for role in roles)):  # of each head
        assert max(costs) >= train.IDLE


@torch.no_grad()
def test_a_removal_costs_what_the_loss_rises_in_the_whole_model(default):
    model, held_out = default

    def loss_at(r):
        words = model(held_out.ids)[0][r.sentence, r.row].log_softmax(-1)
        return -words[torch.arange(len(r.right)), r.right][r.scoring].mean().item()

    for role in train.measure(model, held_out):
        r = train.Relations(held_out, role.name)
        with model.heads_off([(0, role.head)]):
            without = loss_at(r)
        assert role.cost[role.head] == pytest.approx(without - loss_at(r), abs=1e-5)


def test_a_grammar_without_relations_is_refused_in_words(default):
    model, _ = default
    empty = HeldOut(12, count=20)
    empty.sentences = [s._replace(relations=()) for s in empty.sentences]
    with pytest.raises(train.Mistake, match="nothing to measure"):
        train.measure(model, empty)


def test_an_untrained_model_has_no_job_for_any_head(default):
    _, held_out = default
    model = train.untrained(GPTConfig())
    model.measure_means(held_out.ids, held_out.counts)
    for role in train.measure(model, held_out):
        assert role.top1[role.head] < 0.9 and max(role.cost) < 0.05


def test_the_optimisers_are_pytorchs_but_for_the_rounding():
    torch.manual_seed(1)
    inputs, truth = torch.randn(2, 64, 8)
    ends = []
    for muon, adam in (
        (train.Muon, train.AdamW),
        (torch.optim.Muon, torch.optim.AdamW),
    ):
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 8, bias=False)
        bias = torch.nn.Parameter(torch.zeros(8))  # of nothing: its gradients are given
        start = layer.weight.detach().clone()
        steps = muon([layer.weight], lr=0.02), adam([bias], lr=0.02, fused=True)
        for step in range(20):
            layer.zero_grad()
            bias.grad = inputs[step % 8]
            (layer(inputs) - truth).square().mean().backward()
            for optimizer in steps:
                optimizer.step()
        ends.append((layer.weight.detach(), bias.detach()))
    (ours, bias), (theirs, their_bias) = ends
    moved = (theirs - start).norm()
    assert 0 < (ours - theirs).norm() < 0.05 * moved  # bfloat16 has 8 bits
    assert torch.equal(bias, their_bias) and bias.norm() > 0.1


def test_muon_steps_equally_far_in_every_direction_of_a_matrix():
    # Its five Newton-Schulz steps leave singular values near 1 (Jordan et al. 2024).
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    torch.manual_seed(0)
    weight.grad = torch.randn(8, 8) + 10
    before = torch.linalg.svdvals(weight.grad)
    assert before[0] > 10 * before[-1]
    train.Muon([weight], lr=1.0, weight_decay=0.0).step()
    lengths = torch.linalg.svdvals(weight.detach())
    assert 0.6 < lengths.min() and lengths.max() < 1.3
    assert not torch.equal(weight, weight.bfloat16().float())  # in full precision


def test_small_batches_at_the_whole_rate_then_whole_batches_while_it_falls():
    settings = TrainConfig(steps=100, batch_size=30)
    plan = [train.schedule(step, settings) for step in range(100)]
    rates, sizes = map(list, zip(*plan))
    assert sizes == [10] * 50 + [30] * 50
    assert rates[:20] == sorted(set(rates[:20])) and rates[19:51] == [1.0] * 32
    assert rates[50:] == sorted(set(rates[50:]), reverse=True) and rates[-1] < 0.03
    assert train.schedule(0, TrainConfig(batch_size=1))[1] == 1


def test_the_same_seed_gives_the_same_weights_bit_for_bit(quick):
    again, _ = train.train(GPTConfig(), QUICK)
    other, _ = train.train(GPTConfig(), TrainConfig(**{**vars(QUICK), "seed": 1}))
    state, same, different = (m.state_dict() for m in (quick[0], again, other))
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert not torch.equal(state["token.weight"], different["token.weight"])


def test_training_tells_how_far_it_is():
    moments = []
    train.train(GPTConfig(), QUICK, lambda model, moment: moments.append(moment))
    assert [m.step for m in moments] == [0, 10, 20, 30]
    assert moments[-1].held_out < moments[0].held_out
    assert all(m.held_out > m.floor and m.above > 0 for m in moments)


def test_untrained_is_repeatable_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b = train.untrained(GPTConfig()), train.untrained(GPTConfig())
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a.token.weight, b.token.weight)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"vocab_size": 99}, "100 words: vocab_size=99 is too small"),
        ({"block_size": 8}, "block_size=8 is too short, 12 would do"),
    ],
)
def test_a_configuration_below_the_language_is_refused_before_training(config, said):
    with pytest.raises(Mistake, match=said):
        train.train(GPTConfig(**config), QUICK)


def test_a_loss_that_is_no_number_is_noticed():
    wild = TrainConfig(**{**vars(QUICK), "learning_rate": 1e30})
    with pytest.raises(Mistake, match="no longer a number.*learning_rate"):
        train.train(GPTConfig(), wild)


def test_inspect_attention_gives_words_and_weights(default):
    model, _ = default
    seen = train.inspect_attention(model, "The quick brown fox.")
    assert seen.words == ["<s>", "the", "quick", "brown", "fox"]
    assert seen.weights.shape == (1, 4, 5, 5)
    torch.testing.assert_close(seen.weights.sum(-1), torch.ones(1, 4, 5))
    assert (seen.weights.triu(1) == 0).all()


def test_generating(default):
    model, _ = default
    assert generate(model, temperature=0) == generate(model, temperature=0)
    assert generate(model, seed=3) == generate(model, seed=3)
    assert generate(model, top_k=1) == generate(model, temperature=0)
    told = generate(model, "the hungry fox", temperature=0.7, seed=1)
    assert told.startswith("the hungry fox ") and told.endswith(".")
    many = generate_many(model, 50, seed=2)
    assert len(many) == 50 and len({tuple(words) for words in many}) > 30


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt": "the unicorn"}, "unicorn"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
    ],
)
def test_generating_refuses_what_makes_no_sense(default, wrong, said):
    with pytest.raises(Mistake, match=said):
        generate(default[0], **wrong)


def test_what_the_model_expects_is_close_to_the_truth(default):
    words = train.read("the hungry fox")
    model, truth = train.expect(default[0], words), train.next_words(tuple(words))
    assert sum(model.values()) == pytest.approx(1, abs=1e-4)
    assert max(model, key=model.get) == max(truth, key=truth.get) == "eats"
    assert model["eats"] == pytest.approx(truth["eats"], abs=0.1)


# --- the checkpoint


def test_a_checkpoint_comes_back_as_it_was(quick, tmp_path):
    path = tmp_path / "checkpoint.pt"
    train.save_checkpoint(path, *quick, QUICK)
    model, held_out = train.load_checkpoint(path)
    for name, tensor in quick[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert held_out.sentences == quick[1].sentences
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_damaged_checkpoints_are_refused_or_identical(quick, tmp_path):
    path = tmp_path / "checkpoint.pt"
    train.save_checkpoint(path, *quick, QUICK)
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for i in range(200):
        data = bytearray(whole)
        if i % 2:
            data = data[: rng.randrange(len(data))]
        else:
            for _ in range(rng.choice([1, 1, 4, 64])):
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        try:
            model, _ = train.load_checkpoint(path)
        except Mistake as mistake:
            refused += 1
            assert '"python train.py" makes a new one' in str(mistake)
            assert "\n" not in str(mistake)
            continue
        for name, tensor in quick[0].state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor)
    assert refused >= 150


def test_a_failing_disk_leaves_the_old_checkpoint_whole(quick, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    train.save_checkpoint(path, *quick, QUICK)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Mistake, match="No space left"):
        train.save_checkpoint(path, *quick, QUICK)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["checkpoint.pt"]


def test_another_language_or_another_program_is_refused(quick, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    train.save_checkpoint(path, *quick, QUICK)
    monkeypatch.setattr(train, "fingerprint", lambda: 1)
    with pytest.raises(Mistake, match="another grammar"):
        train.load_checkpoint(path)
    monkeypatch.setattr(train, "VOCABULARY", train.VOCABULARY[::-1])
    with pytest.raises(Mistake, match="another vocabulary"):
        train.load_checkpoint(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(Mistake, match="not a checkpoint of Toy GPT"):
        train.load_checkpoint(path)
    torch.save(GPT(GPTConfig()), path)  # a pickle that would run code
    with pytest.raises(Mistake, match="damaged, or not a checkpoint"):
        train.load_checkpoint(path)


def test_a_checkpoint_of_another_shape_is_not_used_silently(tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    trained = train.train(GPTConfig(n_head=2), QUICK)
    train.save_checkpoint(path, *trained, QUICK)
    assert train.load_model(path).config.n_head == 2
    said = capsys.readouterr().err
    assert "n_head=2 (now 4)" in said and "python train.py" in said


def test_relations_are_scored_on_other_sentences_than_the_head_is_chosen_on():
    relations = train.Relations(HeldOut(12, count=400), "verb")
    chosen = set(relations.sentence[relations.choosing].tolist())
    assert not chosen & set(relations.sentence[relations.scoring].tolist())
