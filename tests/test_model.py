"""The GPT's mathematics, held against PyTorch's own operators."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model import GPT, PADDING, SHORT, GPTConfig, attention, causal_mask, softmax

TINY = GPTConfig(vocab_size=20, block_size=8, n_layer=2, n_head=2, n_embd=16)


def tiny(seed=0, config=TINY):
    torch.manual_seed(seed)
    model = GPT(config).eval()
    for p in model.parameters():  # far from the start, where all maps are uniform
        nn.init.normal_(p, std=0.5)
    return model


def some_ids(B=3, T=8, seed=1):
    return torch.randint(20, (B, T), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("T", [1, 2, 12, 64])
def test_attention_equals_pytorchs_kernel_forward_and_backward(T):
    ours = [torch.randn(3, 4, T, 8, dtype=torch.float64) for _ in range(3)]
    theirs = [t.clone().requires_grad_() for t in ours]
    ours = [t.requires_grad_() for t in ours]
    a, weights = attention(*ours, causal_mask(T))
    b = F.scaled_dot_product_attention(*theirs, is_causal=True)
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    (a**2).sum().backward()
    (b**2).sum().backward()
    for x, y in zip(ours, theirs):
        torch.testing.assert_close(x.grad, y.grad, atol=1e-6, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_softmax_equals_pytorchs_and_does_not_overflow():
    for scale in (1, 1e4):
        scores = scale * torch.randn(3, 4, 12, 12)
        torch.testing.assert_close(softmax(scores), scores.softmax(-1))


def test_attention_keeps_the_precision_it_is_given():
    q, k, v = (torch.randn(2, 5, 8, dtype=torch.bfloat16) for _ in range(3))
    y, weights = attention(q, k, v, causal_mask(5))
    assert y.dtype == weights.dtype == torch.bfloat16
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(y, expected, atol=0.05, rtol=0.05)


def test_attention_without_a_mask_looks_everywhere():
    q, k, v = (torch.randn(2, 5, 8) for _ in range(3))
    y, weights = attention(q, k, v)
    torch.testing.assert_close(y, F.scaled_dot_product_attention(q, k, v))
    assert (weights > 0).all()


@pytest.mark.parametrize("T", [8, SHORT + 1])  # the formula, and the fused kernel
def test_heads_equal_pytorchs_multihead_attention(T):
    ours = tiny().double().blocks[0].attention
    theirs = nn.MultiheadAttention(16, 2, batch_first=True).double().eval()
    with torch.no_grad():
        parts = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.project.state_dict())
    x = torch.randn(3, T, 16, dtype=torch.float64)
    y, weights = theirs(x, x, x, attn_mask=~causal_mask(T), average_attn_weights=False)
    for need_weights in (True, False):
        got, _ = ours(x, need_weights)
        torch.testing.assert_close(got, y, atol=1e-6, rtol=0)
    for got in (ours(x, True)[1], ours.weights(x)):
        torch.testing.assert_close(got, weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("T", [SHORT, SHORT + 1])
def test_the_output_is_the_same_with_and_without_weights_asked_for(T):
    model, ids = tiny(config=replace(TINY, block_size=T)), some_ids(T=T)
    with_weights, _ = model.embed_and_attend(ids, need_weights=True)
    without, _ = model.embed_and_attend(ids)
    torch.testing.assert_close(with_weights, without, atol=1e-5, rtol=1e-5)


def test_no_word_sees_a_later_one():
    model, ids = tiny(), some_ids()
    logits, maps = model(ids)[0], model.attention_maps(ids)
    for t in range(1, 8):
        changed = ids.clone()
        changed[:, t:] = (changed[:, t:] + 1) % 20
        torch.testing.assert_close(model(changed)[0][:, :t], logits[:, :t])
        for before, after in zip(maps, model.attention_maps(changed)):
            torch.testing.assert_close(after[:, :, :t], before[:, :, :t])
        assert not torch.allclose(model(changed)[0][:, t:], logits[:, t:])


def test_maps_have_the_layout_that_bertviz_and_circuitsvis_read():
    maps = tiny().attention_maps(some_ids(B=1))
    assert len(maps) == 2
    for layer in maps:
        assert layer.shape == (1, 2, 8, 8)  # head_view: (1, n_head, T, T) a layer
        torch.testing.assert_close(layer.sum(-1), torch.ones(1, 2, 8))
        assert (layer.triu(1) == 0).all()


def test_the_loss_is_the_mean_cross_entropy_and_leaves_out_padding():
    model, ids = tiny(), some_ids()
    targets = some_ids(seed=2)
    targets[0, 5:], targets[1, 2:] = PADDING, -100  # any negative number is padding
    logits, loss = model(ids, targets)
    kept = targets >= 0
    expected = F.cross_entropy(logits[kept], targets[kept])
    torch.testing.assert_close(loss, expected)
    garbage = ids.clone()
    garbage[0, 5:] = 7  # what stands where nothing is asked
    for kept_up in (model(garbage, targets)[1], model.loss(garbage, targets)):
        assert kept_up.item() == pytest.approx(loss.item(), abs=1e-5)


def test_the_loss_without_logits_has_the_same_gradients():
    model, ids = tiny().double(), some_ids()
    targets = some_ids(seed=2)
    targets[0, 5:], targets[1, 2:] = PADDING, PADDING
    gradients = []
    for loss in (model(ids, targets)[1], model.loss(ids, targets)):
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for with_logits, without in zip(*gradients):
        torch.testing.assert_close(with_logits, without)


def test_logits_of_an_untrained_model_are_nearly_uniform():
    _, loss = GPT(TINY)(some_ids(), some_ids(seed=2))
    assert loss.item() == pytest.approx(math.log(20), rel=0.02)


def test_the_same_seed_gives_the_same_weights():
    a, b = (tiny(seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_head_switched_off_gives_its_mean_and_comes_back():
    model, ids = tiny(), some_ids()
    model.measure_means(ids, torch.ones_like(ids, dtype=torch.bool))
    before = model(ids)[0]
    with model.heads_off([(0, 1)]):
        without = model(ids)[0]
        with model.heads_off([(1, 0)]):
            assert not torch.allclose(model(ids)[0], without)
        assert torch.equal(model(ids)[0], without)
    assert not torch.allclose(without, before)
    assert torch.equal(model(ids)[0], before)


def test_mean_ablation_is_the_mean_over_the_counted_words():
    model, ids = tiny(), some_ids()
    counts = torch.arange(8) < torch.tensor([[8], [5], [3]])
    model.measure_means(ids, counts)
    layer = model.blocks[0]
    x = layer.norm_1(model.token(ids) + model.position.weight)
    y, _ = layer.attention.heads(x)  # (B, n_head, T, head_size)
    mean = y.transpose(1, 2)[counts].mean(0)
    torch.testing.assert_close(layer.attention.mean[:, 0], mean)


def test_heads_come_back_when_an_exception_passes():
    model, ids = tiny(), some_ids()
    before = model(ids)[0]
    with pytest.raises(RuntimeError), model.heads_off([(0, 0), (1, 1)]):
        raise RuntimeError("in the middle")
    assert torch.equal(model(ids)[0], before)


@pytest.mark.parametrize("heads", [[(2, 0)], [(0, 2)], [(-1, 0)]])
def test_a_head_that_is_not_there_is_refused(heads):
    with pytest.raises(ValueError, match="there is no head"), tiny().heads_off(heads):
        pass


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n_embd": 30}, "n_embd=30.*28 or 32"),
        ({"n_embd": 3}, "n_embd=3.*such as 4"),
        ({"n_head": 0}, "n_head=0.*1 or more"),
        ({"n_layer": -1}, "n_layer=-1.*1 or more"),
        ({"block_size": 0}, "block_size=0"),
        ({"vocab_size": 2.5}, "vocab_size=2.5.*whole number"),
        ({"vocab_size": "100"}, "vocab_size='100'"),
        ({"n_head": True}, "n_head=True"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"dropout": math.nan}, "dropout=nan"),
        ({"dropout": "a"}, "dropout='a'"),
        ({"debug": 1}, "debug=1.*True or False"),
    ],
)
def test_an_impossible_configuration_says_what_would_do(wrong, said):
    with pytest.raises(ValueError, match=said):
        GPTConfig(**wrong)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (torch.zeros(1, 9, dtype=torch.long), "9 tokens.*block_size=8"),
        (torch.full((1, 3), 20), "id 20 is outside the vocabulary, 0 to 19"),
        (torch.full((1, 3), -1), "id -1 is outside"),
        (torch.zeros(3, dtype=torch.long), r"\(B, T\)"),
        (torch.zeros(1, 0, dtype=torch.long), r"\(1, 0\)"),
        (torch.zeros(1, 3), "float32"),
    ],
)
def test_ids_that_make_no_sense_are_refused_with_the_numbers(ids, said):
    with pytest.raises(ValueError, match=said):
        tiny()(ids)
    with pytest.raises(ValueError, match=said):
        tiny().attention_maps(ids)


def test_a_target_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match="target 20 is outside"):
        tiny()(some_ids(), torch.full((3, 8), 20))


def test_debug_mode_shows_each_step_and_only_in_eval_mode(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    model = GPT(GPTConfig(vocab_size=100, block_size=12, n_head=4, debug=True))
    ids = torch.randint(100, (2, 12))
    model.train()(ids)
    assert capsys.readouterr().out == ""
    logits, _ = model.eval()(ids)
    said = capsys.readouterr().out
    for step in ("embeddings", "q", "k", "v", "scores", "weights", "output", "logits"):
        assert f"\n{step} " in f"\n{said}"
    assert "(2, 4, 12, 12)" in said
    assert logits.shape == (2, 12, 100)
    assert (tmp_path / "figures").exists()


def test_without_debug_mode_nothing_is_said_or_drawn(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    GPT(GPTConfig()).eval()(torch.randint(100, (1, 12)))
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
