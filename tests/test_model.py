"""model.py against PyTorch's own operators, and every edit of its formula seen."""

import math
import subprocess
import sys

import pytest
import torch
from shared import ROOT, finish, start
from torch import nn
from torch.nn import functional as F

import model as module
import train
from model import GPT, GPTConfig, attention, causal_mask

N_HEAD, N_EMBD = GPTConfig().n_head, GPTConfig().n_embd
SIZE = N_EMBD // N_HEAD
IDS = torch.randint(100, (3, 12), generator=torch.Generator().manual_seed(1))


def blank(**shape):
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(**shape))
    for p in gpt.parameters():  # larger than at the start, so that heads differ
        nn.init.normal_(p, std=0.3)
    return gpt.eval()


def test_attention_and_its_gradients_are_pytorch_s():
    q, k, v = (torch.randn(2, 3, 7, 8, requires_grad=True) for _ in range(3))
    ours, weights = attention(q, k, v, causal_mask(7))
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7))
    grads = [torch.autograd.grad(y.square().mean(), (q, k, v)) for y in (ours, theirs)]
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_attention_keeps_the_precision_it_is_given(dtype):
    q, k, v = torch.randn(3, 2, 7, 8, dtype=dtype)
    output, weights = attention(q, k, v, causal_mask(7))
    assert output.dtype == weights.dtype == dtype
    assert (weights.triu(1) == 0).all()


def test_the_heads_are_those_of_multihead_attention():
    gpt = blank()
    ours = gpt.blocks[0].attention
    theirs = nn.MultiheadAttention(N_EMBD, N_HEAD, batch_first=True)
    linears = ours.query, ours.key, ours.value
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([f.weight for f in linears]))
        theirs.in_proj_bias.copy_(torch.cat([f.bias for f in linears]))
        theirs.out_proj.load_state_dict(ours.project.state_dict())
        x = gpt.blocks[0].norm_1(gpt.token(IDS) + gpt.position.weight)
        y, maps = theirs(
            x, x, x, attn_mask=~causal_mask(12), average_attn_weights=False
        )
        torch.testing.assert_close(ours(x), y, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gpt.attention_maps(IDS)[0], maps, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("mode", [True, False])
def test_an_edited_mask_is_followed(dropout, mode, monkeypatch):
    gpt = blank(dropout=dropout).train(mode)

    def gradient_of_the_first_word():
        torch.manual_seed(0)
        x = gpt.token.weight[IDS].detach().requires_grad_()
        y = gpt.blocks[0](x)
        return torch.autograd.grad(y[:, -1].sum(), x)[0][:, 0].abs().max().item()

    assert gradient_of_the_first_word() > 0
    monkeypatch.setattr(module, "causal_mask", lambda T: causal_mask(T).triu(-1))
    assert gradient_of_the_first_word() == 0
    assert gpt.attention_maps(IDS)[0][0, 0, -1, 0] == 0


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("mode", [True, False])
def test_without_its_triangle_the_mask_shows_the_future(dropout, mode, monkeypatch):
    gpt, later = blank(dropout=dropout).train(mode), IDS.clone()
    later[:, -1] = (later[:, -1] + 1) % 100

    def the_first_row_knows_the_last_word():
        rows = []
        for ids in (IDS, later):
            torch.manual_seed(0)
            rows.append(gpt(ids)[0][:, 0])
        return not torch.equal(*rows)

    assert not the_first_row_knows_the_last_word()
    monkeypatch.setattr(module, "causal_mask", lambda T: causal_mask(T) | True)
    assert the_first_row_knows_the_last_word()
    assert gpt.attention_maps(IDS)[0].triu(1).sum() > 0


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("mode", [True, False])
def test_an_edited_formula_is_followed(dropout, mode, monkeypatch):
    gpt = blank(dropout=dropout).train(mode)

    def loss_and_gradient():
        torch.manual_seed(0)
        _, loss = gpt(IDS, IDS.flip(1))
        return loss, *torch.autograd.grad(loss, gpt.blocks[0].attention.query.weight)

    before = loss_and_gradient()
    monkeypatch.setattr(
        module, "attention", lambda q, k, v, mask: attention(9 * q, k, v, mask)
    )
    for a, b in zip(before, loss_and_gradient()):
        assert not torch.allclose(a, b)


def test_the_whole_pass_is_that_of_pytorch_s_own_layers():
    gpt = blank(n_layer=2)
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(
            N_EMBD, N_HEAD, 4 * N_EMBD, 0.0, "gelu", batch_first=True, norm_first=True
        ),
        num_layers=2,
        enable_nested_tensor=False,
    )
    with torch.no_grad():
        for ours, layer in zip(gpt.blocks, theirs.layers):
            heads, own = ours.attention, layer.self_attn
            linears = heads.query, heads.key, heads.value
            own.in_proj_weight.copy_(torch.cat([f.weight for f in linears]))
            own.in_proj_bias.copy_(torch.cat([f.bias for f in linears]))
            for a, b in (
                (heads.project, own.out_proj),
                (ours.norm_1, layer.norm1),
                (ours.norm_2, layer.norm2),
                (ours.mlp[0], layer.linear1),
                (ours.mlp[2], layer.linear2),
            ):
                b.load_state_dict(a.state_dict())
        x = gpt.token(IDS) + gpt.position(torch.arange(12))
        x = theirs.train()(x, mask=~causal_mask(12))  # in eval a fused kernel answers
        logits = gpt.norm(x) @ gpt.token.weight.T
        ours, loss = gpt(IDS, IDS.flip(1))
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)
    wanted = F.cross_entropy(logits.flatten(0, 1), IDS.flip(1).flatten())
    torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)


def test_dropout_is_on_the_embedding_and_on_both_branches_of_a_block():
    gpt, given = blank(dropout=0.9).train(), []
    block = gpt.blocks[0]
    block.register_forward_pre_hook(lambda block, arguments: given.extend(arguments))
    gpt(IDS)
    x = given[0]
    assert (x == 0).float().mean().item() == pytest.approx(0.9, abs=0.05)
    nothing_added = (block(x) == x).float().mean().item()
    assert nothing_added == pytest.approx(0.9**2, abs=0.05)


def test_padding_counts_for_nothing():
    gpt, targets = blank(), IDS.flip(1)
    _, short = gpt(IDS[:, :7], targets[:, :7])
    padded = torch.where(torch.arange(12) < 7, targets, -1)
    torch.testing.assert_close(gpt(IDS, padded)[1], short)


def test_maps_and_outputs_have_the_layout_that_is_promised():
    gpt = blank(n_layer=2)
    maps, outputs = gpt.attention_maps(IDS), gpt.head_outputs(IDS)
    assert [tuple(m.shape) for m in maps] == [(3, N_HEAD, 12, 12)] * 2
    assert [tuple(o.shape) for o in outputs] == [(3, N_HEAD, 12, SIZE)] * 2
    for m in maps:
        torch.testing.assert_close(m.sum(-1), torch.ones(3, N_HEAD, 12))
        assert (m.triu(1) == 0).all()


@pytest.mark.parametrize("sight", [12, 2])
def test_all_heads_patched_together_are_the_other_sentence(sight, monkeypatch):
    monkeypatch.setattr(module, "causal_mask", lambda T: causal_mask(T).triu(1 - sight))
    gpt, other = blank(), IDS.clone()
    other[:, 2] = (other[:, 2] + 1) % 100  # the last word and its place are the same
    given = gpt.head_outputs(other)
    patches = {(0, head): given[0][:, head] for head in range(N_HEAD)}
    with gpt.patch_heads(patches):
        patched = gpt(IDS)[0][:, -1]
    torch.testing.assert_close(patched, gpt(other)[0][:, -1], atol=1e-5, rtol=1e-5)


def test_patches_nest_and_end_with_their_block():
    gpt = blank()
    before = gpt(IDS)[0]
    with gpt.patch_heads({(0, 0): torch.zeros(SIZE)}):
        one = gpt(IDS)[0]
        with (
            pytest.raises(KeyboardInterrupt),
            gpt.patch_heads({(0, 1): torch.ones(SIZE)}),
        ):
            assert not torch.equal(gpt(IDS)[0], one)
            raise KeyboardInterrupt
        assert torch.equal(gpt(IDS)[0], one)
    assert torch.equal(gpt(IDS)[0], before) and not torch.equal(one, before)


@pytest.mark.parametrize("head", [(0, N_HEAD), (1, 0), (-1, 0), (0, -1), 0])
def test_there_is_no_such_head(head):
    with (
        pytest.raises(ValueError, match="no head"),
        blank().patch_heads({head: 0}),
    ):
        pass


def test_a_pass_that_breaks_off_leaves_the_model_as_it_was(monkeypatch):
    gpt = blank(dropout=0.5)
    before = gpt(IDS)[0]
    gpt.train()

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "attention", interrupted)
        gpt.attention_maps(IDS)
    assert gpt.training and gpt.dropout.training
    assert len(gpt.attention_maps(IDS)) == 1
    assert torch.equal(gpt.eval()(IDS)[0], before)


LOOKS = {
    "attention_maps": lambda gpt: gpt.attention_maps(IDS),
    "head_outputs": lambda gpt: gpt.head_outputs(IDS),
    "inspect_attention": lambda gpt: train.inspect_attention(gpt, "the cat").weights,
    "expect": lambda gpt: train.expect(gpt, ["<s>", "the"]),
    "generate": lambda gpt: train.generate(gpt, seed=1),
    "loss": lambda gpt: train.loss_and_floor(gpt, 20),
    "measure": lambda gpt: train.measure(gpt, train.HeldOut(count=200)),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_inside_is_harmless_in_every_mode(look):
    gpt = blank(dropout=0.5)
    calm = look(gpt)
    gpt.train()
    gpt.blocks[0].eval()  # as of a part that is not to learn
    modes = [module.training for module in gpt.modules()]
    state = torch.get_rng_state()
    again = look(gpt)
    assert str(again) == str(calm)
    assert [module.training for module in gpt.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_looking_inside_leaves_patched_heads_patched(look):
    gpt = blank()
    before = gpt(IDS)[0]
    with gpt.patch_heads({(0, 0): torch.ones(SIZE)}):
        patched = gpt(IDS)[0]
        look(gpt)
        assert torch.equal(gpt(IDS)[0], patched)
    assert torch.equal(gpt(IDS)[0], before) and not torch.equal(patched, before)


@pytest.mark.parametrize(
    ("ids", "targets", "said"),
    [
        (IDS[0], None, "one sequence a row"),
        (IDS.float(), None, "int64"),
        ([[1, 2]], None, "int64"),
        (
            torch.cat([IDS, IDS], 1),
            None,
            r"ids.size\(1\)=24: it must be .* to 12",
        ),
        (IDS + 100, None, "ids=.* from 0 to 99"),
        (IDS - 100, None, "ids=-.* from 0 to 99"),
        (IDS[:0], None, "one sequence a row"),
        (IDS[:, :0], None, "from 1 to 12"),
        (IDS, IDS[:, 1:], "shape of ids"),
        (IDS, torch.full_like(IDS, -1), "padding only"),
        (IDS, IDS + 100, "targets=.* from -1 to 99"),
        (IDS, IDS - 100, "targets=-.* from -1 to 99"),
        (IDS, IDS.int(), "targets must be an int64 tensor"),
    ],
)
def test_ids_and_targets_that_cannot_be(ids, targets, said):
    with pytest.raises(ValueError, match=said) as refused:
        blank()(ids, targets)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "shape",
    [{"n_head": 5}, {"n_layer": 0}, {"n_embd": 2.5}, {"dropout": 1}, {"debug": 1}],
)
def test_a_shape_that_cannot_be_says_what_would_do(shape):
    with pytest.raises(ValueError, match="it must be"):
        GPTConfig(**shape)


def test_the_initialisation_is_that_of_gpt_2():
    torch.manual_seed(0)
    for name, parameter in GPT(GPTConfig(n_layer=2, n_embd=64)).named_parameters():
        if parameter.dim() == 2:
            adds_to_x = "project" in name or "mlp.2" in name
            wanted = 0.02 / math.sqrt(4) if adds_to_x else 0.02
            assert parameter.std().item() == pytest.approx(wanted, rel=0.1), name
        else:
            assert parameter.unique().tolist() == [float("bias" not in name)], name


def test_the_first_loss_is_that_of_a_guess():
    torch.manual_seed(0)
    _, loss = GPT(GPTConfig())(IDS, IDS.flip(1))
    assert loss.item() == pytest.approx(math.log(100), abs=0.2)


# ------------------------------------------------------------------ python model.py


def test_the_shapes_are_told_where_no_picture_can_be_written(tmp_path):
    (tmp_path / "figures").touch()  # also for root, who may write everywhere
    status, out, error = finish(start(tmp_path, "model.py"))
    assert status == 2
    assert error.startswith("model.py: ") and error.count("\n") == 1
    for told in ((1, N_HEAD, 12, 12), (1, 12, N_EMBD)):
        assert str(told) in out


def test_the_shapes_may_be_cut_off(tmp_path):
    command = f'"{sys.executable}" -u "{ROOT}/model.py" | head -1'
    process = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, check=False
    )
    assert process.stderr == b"" and process.stdout.count(b"\n") == 1
