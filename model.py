"""A GPT on one page: the architecture of GPT-2, small enough to be read aloud.

`python model.py` shows the shapes of one pass: B sequences in a batch, T tokens (here a
token is a word) in each, n_embd features of a token, head_size = n_embd // n_head.

References: Vaswani et al. 2017, "Attention Is All You Need" (3.4: tied weights); Radford
et al. 2018 and 2019 (GPT: learned positions, GELU; GPT-2: norms first); Wang et al. 2022,
"Interpretability in the Wild".
"""

import math
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import torch
from torch import nn

PADDING = -1  # a target that never contributes to the loss


def causal_mask(T):
    """Which word may look at which: (T, T), True on and below the diagonal."""
    return torch.ones(T, T, dtype=torch.bool).tril()


def attention(q, k, v, mask):
    """softmax(QKᵀ / √d_k + mask) V (Vaswani et al. 2017, equation 1; its mask: 3.2.3).

    q, k, v: (..., T, d_k), d_k a head's head_size. mask: (T, T), True where a row may
    look (0 in the formula). Returns the output (..., T, d_k) and the weights (..., T, T).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (..., T, T)
    scores = scores + torch.where(mask, 0.0, -math.inf).to(scores)  # (..., T, T)
    weights = scores.softmax(dim=-1)  # (..., T, T), rows sum to 1
    return weights @ v, weights


class Mistake(ValueError):
    """Something the reader can mend; the message says how."""


def check(name, value, kind, least, most):
    """Raise Mistake unless a value is of this type, and from least to most."""
    what = {int: "a whole number", float: "a number", bool: "a truth value"}[kind]
    fits = isinstance(value, kind | int) and isinstance(value, bool) == (kind is bool)
    if not (fits and least <= value <= most):
        raise Mistake(f"{name}={value!r:.40}: it must be {what} from {least} to {most}")


def setting(default, text, least=1, most=10**6):
    """A field of Settings: its default, the help of its flag, and its range."""
    return field(default=default, metadata={"help": text, "range": (least, most)})


class Settings:
    """A dataclass whose fields are made by `setting`: it refuses impossible values."""

    def __post_init__(self):
        for f in fields(self):
            check(f.name, getattr(self, f.name), f.type, *f.metadata["range"])


@dataclass(frozen=True)
class GPTConfig(Settings):
    """The shape of a GPT. Raises Mistake, with what would do, where it can't be."""

    vocab_size: int = setting(100, "entries in the vocabulary")
    block_size: int = setting(12, "the longest sequence, in tokens")
    n_layer: int = setting(1, "blocks, one on top of the other")
    n_head: int = setting(4, "attention heads in a block")
    n_embd: int = setting(44, "features of a token, a multiple of n_head")
    dropout: float = setting(0.0, "share of features dropped in training", 0, 0.99)
    debug: bool = setting(False, "show shapes and maps in eval mode", False, True)

    def __post_init__(self):
        super().__post_init__()
        if missing := -self.n_embd % self.n_head:
            fitting = f"n_head={self.n_head}, such as {self.n_embd + missing}"
            raise Mistake(f"n_embd={self.n_embd}: it must be a multiple of {fitting}")


class CausalSelfAttention(nn.Module):
    """n_head heads side by side; no word looks at a later one."""

    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        n = config.n_embd
        self.query, self.key, self.value = (nn.Linear(n, n) for _ in range(3))
        self.project = nn.Linear(n, n)
        self.patches = {}  # from a head to the output that it gives instead of its own

    def forward(self, x):
        """x: (B, T, n_embd). Returns the same shape. It leaves what the heads did in
        `maps` (B, n_head, T, T) and `outputs` (B, n_head, T, head_size)."""
        qkv = self.query(x), self.key(x), self.value(x)  # (B, T, n_embd) each
        q, k, v = (y.unflatten(2, (self.n_head, -1)).transpose(1, 2) for y in qkv)
        outputs, maps = attention(q, k, v, causal_mask(x.size(1)))  # (B, n_head, T, …)
        for head, tensor in self.patches.items():
            outputs[:, head] = tensor  # of (B, n_head, T, head_size)
        self.maps, self.outputs = maps.detach(), outputs.detach()
        y = outputs.transpose(1, 2).flatten(2)  # (B, T, n_embd): the heads side by side
        return self.project(y)


class Block(nn.Module):
    """Attention moves information between words, the MLP works on each word alone."""

    def __init__(self, config):
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.n_embd)
        self.attention = CausalSelfAttention(config)
        self.norm_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        """x: (B, T, n_embd). Returns the same shape."""
        x = x + self.dropout(self.attention(self.norm_1(x)))
        return x + self.dropout(self.mlp(self.norm_2(x)))


class GPT(nn.Module):
    """Token ids in, logits of the next token out."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)
        self.names = [str(i) for i in range(config.vocab_size)]  # of the tokens
        # GPT-2 (section 2.3): what is added to x starts smaller in a deeper model.
        added = "project.weight", "mlp.2.weight"
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                depth = 2 * config.n_layer if name.endswith(added) else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids, targets=None):
        """ids: (B, T) int64. targets: (B, T) int64, each word's successor, or PADDING.
        Returns the logits (B, T, vocab_size) and the loss, the mean cross-entropy in
        nats, or None without targets. Raises Mistake where ids or targets can't be."""
        if self.config.debug and not self.training:
            self._show(ids)
        logits = self.logits(ids)
        if targets is None:
            return logits, None
        self._check("targets", targets, PADDING)
        if targets.shape != ids.shape or (targets == PADDING).all():
            raise Mistake("targets must have the shape of ids, not be padding only")
        rows, wanted = logits.flatten(0, 1), targets.flatten()  # (B * T, …), (B * T)
        return logits, nn.functional.cross_entropy(rows, wanted, ignore_index=PADDING)

    def logits(self, ids):
        """The pass itself, without debug mode: ids (B, T) to logits. Raises Mistake."""
        self._check("ids", ids, 0)
        x = self.dropout(self.token(ids) + self.position.weight[: ids.size(1)])
        for block in self.blocks:
            x = block(x)  # (B, T, n_embd)
        return self.norm(x) @ self.token.weight.T  # (B, T, vocab_size), weights tied

    def attention_maps(self, ids):
        """Where each head looks: for each layer (B, n_head, T, T), as bertviz reads it.
        Row i says how much word i looks at each word; a row sums to 1."""
        with looking(self):
            self.logits(ids)
        return [block.attention.maps for block in self.blocks]

    def head_outputs(self, ids):
        """What each head gives: for each layer a tensor (B, n_head, T, head_size)."""
        with looking(self):
            self.logits(ids)
        return [block.attention.outputs for block in self.blocks]

    @contextmanager
    def patch_heads(self, patches):
        """Within the `with` block, heads give these outputs instead of their own: those
        of another sentence (activation patching), or a mean (the head is off). patches:
        {(layer, head): tensor}, counted from 0; a tensor is anything that broadcasts to
        (B, T, head_size). Raises Mistake where there is no such head."""
        layers, heads = range(self.config.n_layer), range(self.config.n_head)
        if missing := set(patches) - {(i, j) for i in layers for j in heads}:
            raise Mistake(f"no head {missing.pop()}: (layer, head), counted from 0")
        before = [dict(block.attention.patches) for block in self.blocks]
        try:
            for (layer, head), tensor in patches.items():
                self.blocks[layer].attention.patches[head] = tensor
            yield
        finally:
            for block, own in zip(self.blocks, before):
                block.attention.patches = own

    def _show(self, ids):
        """Debug mode: print the shapes of one pass, and draw the maps of sequence 0."""
        import utils  # needs matplotlib, so it is imported only where it is used

        names = {part: name for name, part in self.named_modules()}
        hook = nn.modules.module.register_module_forward_hook
        with hook(lambda part, _, y: print(f"{names[part]:<28}{tuple(y.shape)}")):
            maps = self.attention_maps(ids)
        print(f"{'attention_maps':<28}{tuple(maps[0].shape)} in each layer")
        words = [self.names[i] for i in ids[0].tolist()]
        utils.show(utils.head_grid(torch.stack(maps)[:, 0], words), "figures/debug.png")

    def _check(self, name, ids, least):
        """Raise Mistake unless ids is (B, T), not too long, in the vocabulary."""
        if getattr(ids, "dtype", None) != torch.int64 or ids.dim() != 2 or not len(ids):
            raise Mistake(f"{name} must be an int64 tensor (B, T), one sequence a row")
        check(f"{name}.size(1)", ids.size(1), int, 1, self.config.block_size)
        for word in ids.aminmax():
            check(name, word.item(), int, least, self.config.vocab_size - 1)


@contextmanager
def looking(model):
    """Within the `with` block: eval mode, no gradients. Afterwards: modes as before."""
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            yield model.eval()
    finally:
        for module, mode in modes.items():
            module.training = mode


if __name__ == "__main__":
    import train

    with train.polite():  # catches model.Mistake, but GPT here raises __main__.Mistake
        gpt = train.GPT(train.GPTConfig(debug=True)).eval()
        gpt(torch.randint(gpt.config.vocab_size, (1, gpt.config.block_size)))
