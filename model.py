"""A GPT on one page: the architecture of GPT-2, small enough to be read aloud.

Read it from top to bottom: the configuration, the attention formula, the heads, the
block, the model. `train.py` teaches this model a language; `example.py` and
`attention_demo.py` look inside it. Run it as it is to watch the shapes go by:

    python model.py

Left out on purpose: key-value caches, mixed precision, sharding. They make a GPT
fast; they don't explain it. What differs from GPT-2 is the size, and the queries'
biases (see `QUERY_BIAS_STD`).

Shapes are written with B (sequences in a batch), T (tokens in a sequence), n_embd
(features of a token) and head_size = n_embd // n_head.

References: Vaswani et al. 2017, "Attention Is All You Need"; Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners" (GPT-2: layer normalisation
before each sublayer, learned positions, GELU, the embedding table used for the logits
too); Michel et al. 2019, "Are Sixteen Heads Really Better than One?" (removing heads).
"""

import math
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.nn import functional as F

PADDING = -1  # a target below zero is padding: it never contributes to the loss

# For few tokens the formula, as it is written here, is faster than PyTorch's fused kernel,
# for many it is slower (12 and 32: `python tests/benchmark.py speed`). Above so many, that
# kernel is used wherever no weights are asked for.
SHORT = 15

# Each query starts with a constant of its own, so that from its first step a head
# prefers the same words whichever word is asking. It is meant to have a relation that
# is settled in several places (after an adjective, after a noun) learned by one head;
# `python tests/benchmark.py choices` says how much it helps over GPT-2's zeros.
QUERY_BIAS_STD = 2.75  # tuned together with the rates of `optimizers` in train.py


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. Impossible values raise a ValueError that says what would do.

    One layer of four heads of eight features is the smallest model measured in which
    every relation of the language has a head that looks at the right word 95 times in
    100 (`python tests/benchmark.py experiments`).
    """

    vocab_size: int = 100  # entries in the vocabulary
    block_size: int = 12  # the longest sequence, in tokens
    n_layer: int = 1  # blocks, one on top of the other
    n_head: int = 4  # attention heads in a block
    n_embd: int = 32  # features of a token, a multiple of n_head
    dropout: float = 0.0  # share of the features dropped in training, in [0, 1)
    debug: bool = False  # show shapes and attention maps of each pass in eval mode

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (type(value) is not int or value < 1):
                self._refuse(field.name, "a whole number, 1 or more")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, (int, float)):
            self._refuse("dropout", "a number from 0 up to, not including, 1")
        if not 0 <= self.dropout < 1:
            self._refuse("dropout", "a number from 0 up to, not including, 1")
        if type(self.debug) is not bool:
            self._refuse("debug", "True or False")
        if self.n_embd % self.n_head:
            below = self.n_embd // self.n_head * self.n_head
            choices = [n for n in (below, below + self.n_head) if n]
            self._refuse(
                "n_embd",
                f"a multiple of n_head={self.n_head}, "
                f"such as {' or '.join(map(str, choices))}",
            )

    def _refuse(self, name, wanted):
        raise ValueError(f"{name}={getattr(self, name)!r}: it must be {wanted}")


def causal_mask(T, device=None):
    """Which word may look at which: (T, T), True on and below the diagonal."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def softmax(scores):
    """exp(score) as a share of the sum of its row: (..., T) in, (..., T) out.

    The largest score is taken off first: it cancels, and exp can't overflow. PyTorch's
    own softmax gives the same, and so does exp for exp2(x / ln 2); on rows as short as
    ours, half of them masked, both are slower on a CPU (`python tests/benchmark.py speed`).
    """
    below = scores - scores.detach().amax(dim=-1, keepdim=True)
    exp = torch.exp2(below / math.log(2))
    return exp * (1 / exp.sum(dim=-1, keepdim=True))


def attention_weights(q, k, mask=None, see=None):
    """softmax(QKᵀ / √d_k + mask): how much each word looks at each, (..., T, T)."""
    scores = q / math.sqrt(q.size(-1)) @ k.transpose(-2, -1)  # (..., T, T)
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -math.inf).to(scores)
    weights = softmax(scores)  # (..., T, T)
    if see:
        see("scores", scores)
        see("weights", weights)
    return weights


def attention(q, k, v, mask=None, see=None):
    """softmax(QKᵀ / √d_k + mask) V (Vaswani et al. 2017, equation 1).

    q, k, v: (..., T, head_size). mask: (T, T), True where a row may look at a column;
    None lets every word look at every word. `see(name, tensor)` is shown each step.
    Returns the output (..., T, head_size) and the weights (..., T, T), whose rows
    sum to 1.
    """
    weights = attention_weights(q, k, mask, see)  # (..., T, T)
    output = weights @ v  # (..., T, head_size)
    if see:
        see("output", output)
    return output, weights


class CausalSelfAttention(nn.Module):
    """n_head heads side by side; no word looks at a later one."""

    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.head_size = config.n_embd // config.n_head
        self.query = nn.Linear(config.n_embd, config.n_embd)
        self.key = nn.Linear(config.n_embd, config.n_embd)
        self.value = nn.Linear(config.n_embd, config.n_embd)
        self.project = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = config.dropout
        # What a head gives on average, and the heads that give no more than that now.
        self.register_buffer("mean", torch.zeros(config.n_head, 1, self.head_size))
        self.off = ()

    def forward(self, x, need_weights=False, see=None):
        """x: (B, T, n_embd). Returns the same shape, and the weights (B, n_head, T, T),
        or None where they are not asked for and the kernel kept none."""
        y, weights = self.heads(x, need_weights, see)  # (B, n_head, T, head_size)
        if self.off:
            y = y.clone()
            y[:, self.off] = self.mean[list(self.off)]
        y = y.transpose(1, 2).flatten(2)  # (B, T, n_embd): the heads side by side
        return F.dropout(self.project(y), self.dropout, self.training), weights

    def split(self, x, *linears):
        """Queries, keys or values, head by head: each (B, n_head, T, head_size)."""
        shape = *x.shape[:2], self.n_head, self.head_size
        x = x.flatten(0, 1)  # (B T, n_embd)
        return [linear(x).view(shape).transpose(1, 2) for linear in linears]

    def weights(self, x):
        """Where each head looks, (B, n_head, T, T), and nothing more."""
        q, k = self.split(x, self.query, self.key)
        return attention_weights(q, k, causal_mask(x.size(1), x.device))

    def heads(self, x, need_weights=False, see=None):
        """What each head gives, before they are put together and projected."""
        q, k, v = self.split(x, self.query, self.key, self.value)
        if see:
            for name, tensor in zip("qkv", (q, k, v)):
                see(name, tensor)
        dropout = self.dropout if self.training else 0.0
        if need_weights or (x.size(1) <= SHORT and not dropout):
            return attention(q, k, v, causal_mask(x.size(1), x.device), see)
        # The same formula, in one kernel that never keeps the T × T weights.
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return y, None


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
            nn.Dropout(config.dropout),
        )

    def forward(self, x, need_weights=False, see=None, wanted=None):
        """x: (B, T, n_embd). Returns the same shape, or with wanted, places in the
        flattened (B T), only the words there, (wanted, n_embd); and the weights."""
        y, weights = self.attention(self.norm_1(x), need_weights, see)
        x = x + y  # (B, T, n_embd)
        if wanted is not None:  # from here on no word needs another
            x = x.flatten(0, 1).index_select(0, wanted)  # (wanted, n_embd)
        return x + self.mlp(self.norm_2(x)), weights


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
        self.words = None  # names of the tokens, for the pictures of debug mode
        self.apply(self._initialise)
        for block in self.blocks:
            # GPT-2 (section 2.3): what is added to x starts smaller in a deeper model.
            for linear in (block.attention.project, block.mlp[2]):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * config.n_layer))
            nn.init.normal_(block.attention.query.bias, std=QUERY_BIAS_STD)

    @staticmethod
    def _initialise(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, ids, targets=None):
        """ids: (B, T) int64. targets: (B, T) int64, each word's successor, negative
        where it is padding.

        Returns the logits (B, T, vocab_size) and the loss, the mean cross-entropy in
        nats, or None without targets. Raises ValueError where a sequence is longer
        than block_size or an id lies outside the vocabulary.
        """
        debug = self.config.debug and not self.training
        x, maps = self.embed_and_attend(ids, debug, print_shape if debug else None)
        logits = self.read_out(x)
        if debug:
            print_shape("logits", logits)
            self.show(ids, maps)
        if targets is None:
            return logits, None
        self.check("target", targets, lowest=-math.inf)
        real = targets >= 0  # (B, T)
        return logits, F.cross_entropy(logits[real], targets[real])

    def loss(self, ids, targets):
        """The loss of `forward`, with its arguments and errors, but sooner: after the
        last look at other words nothing is worked out for padding."""
        self.check("target", targets, lowest=-math.inf)
        targets = targets.flatten()  # (B T)
        wanted = (targets >= 0).nonzero().squeeze(1)  # their places
        x, _ = self.embed_and_attend(ids, wanted=wanted)  # (wanted, n_embd)
        return F.cross_entropy(self.read_out(x), targets[wanted])

    def embed(self, ids):
        """What each word is, plus where it stands: (B, T) to (B, T, n_embd)."""
        self.check("id", ids)
        return self.token(ids) + self.position.weight[: ids.size(1)]

    def embed_and_attend(self, ids, need_weights=False, see=None, wanted=None):
        """All but the last step: x and the weights, layer by layer.

        x is (B, T, n_embd), or with wanted, places in the flattened (B T), only the
        words there, (wanted, n_embd).
        """
        x = self.embed(ids)  # (B, T, n_embd)
        if see:
            see("embeddings", x)
        x = self.dropout(x)
        maps = []
        for block in self.blocks:
            last = block is self.blocks[-1]
            x, weights = block(x, need_weights, see, wanted if last else None)
            maps.append(weights)
        return x, maps

    def read_out(self, x):
        """The last step: x (..., n_embd) as logits (..., vocab_size), by likeness to
        the embedding of each word."""
        return self.norm(x) @ self.token.weight.T

    def check(self, name, ids, lowest=0):
        """Raise ValueError unless ids is (B, T), not too long, in the vocabulary."""
        if ids.dim() != 2 or not ids.numel() or ids.dtype != torch.int64:
            raise ValueError(
                f"{name}s must be a (B, T) tensor of int64, one sequence a row, "
                f"not {tuple(ids.shape)} of {ids.dtype}"
            )
        if ids.size(1) > self.config.block_size:
            raise ValueError(
                f"a sequence of {ids.size(1)} tokens is longer than "
                f"block_size={self.config.block_size}"
            )
        least, most = (bound.item() for bound in ids.aminmax())
        if least < lowest or most >= self.config.vocab_size:
            raise ValueError(
                f"{name} {least if least < lowest else most} is outside the "
                f"vocabulary, 0 to {self.config.vocab_size - 1}"
            )

    @torch.no_grad()
    def attention_maps(self, ids):
        """Where each head looks: for each layer a tensor (B, n_head, T, T).

        Row i says how much word i looks at each word; a row sums to 1, and nothing
        lies above the diagonal. The layout is that of Hugging Face's
        `output_attentions`, which bertviz reads.
        """
        x = self.embed(ids)  # (B, T, n_embd)
        maps = []
        for block in self.blocks:
            maps.append(block.attention.weights(block.norm_1(x)))
            if block is not self.blocks[-1]:  # after the last map nothing is needed
                x, _ = block(x)
        return maps

    @torch.no_grad()
    def measure_means(self, ids, counts):
        """Remember what each head gives on average, for `heads_off`.

        ids: (B, T). counts: (B, T) bool, False where there is only padding.
        """
        x = self.embed(ids)  # (B, T, n_embd)
        for block in self.blocks:
            y, _ = block.attention.heads(block.norm_1(x))  # (B, n_head, T, head_size)
            block.attention.mean.copy_(y.transpose(1, 2)[counts].mean(0).unsqueeze(1))
            if block is not self.blocks[-1]:  # after the last mean nothing is needed
                x, _ = block(x)

    @contextmanager
    def heads_off(self, heads):
        """Within the `with` block, each of the heads, (layer, head) pairs from 0,
        gives its mean output, whatever the words: mean ablation."""
        heads = list(heads)
        for layer, head in heads:
            if layer not in range(self.config.n_layer) or head not in range(
                self.config.n_head
            ):
                raise ValueError(
                    f"there is no head ({layer}, {head}): layers go from 0 to "
                    f"{self.config.n_layer - 1}, heads from 0 to {self.config.n_head - 1}"
                )
        before = [block.attention.off for block in self.blocks]
        try:
            for layer, block in enumerate(self.blocks):
                here = {head for at, head in heads if at == layer}
                block.attention.off = tuple(sorted(here.union(before[layer])))
            yield self
        finally:
            for block, off in zip(self.blocks, before):
                block.attention.off = off

    def show(self, ids, maps):
        """Debug mode: draw the maps (a list of (B, n_head, T, T)) of sequence 0."""
        import utils  # needs matplotlib, so it is imported only where it is used

        words = [self.words[i] if self.words else str(i) for i in ids[0].tolist()]
        weights = torch.stack([layer[0] for layer in maps]).detach().cpu()
        titles = [
            [f"L{layer + 1}H{head + 1}" for head in range(self.config.n_head)]
            for layer in range(self.config.n_layer)
        ]
        utils.show(utils.head_grid(weights, words, titles), "figures/debug.png")


def print_shape(name, tensor):
    """One line of debug mode."""
    print(f"{name:<11}{tuple(tensor.shape)}")


if __name__ == "__main__":
    gpt = GPT(GPTConfig(debug=True)).eval()
    gpt(torch.randint(gpt.config.vocab_size, (1, gpt.config.block_size)))
