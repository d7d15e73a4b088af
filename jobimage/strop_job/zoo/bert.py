"""BERT encoders whose parameter names are those of Hugging Face checkpoints, so that weights load strictly.

Architecture: Devlin et al., 2018 (https://arxiv.org/abs/1810.04805). The sentence encoder on top: mean pooling over the
attention mask, then L2 normalisation (Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084).
"""
# mypy: disable-error-code="misc"
# torch is not followed by the type checker, so its Module is Any.

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BertConfig:
    """Sizes, in the words of a checkpoint's `config.json`. The defaults are MiniLM-L6-H384's."""

    vocab_size: int = 30_522
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    intermediate_size: int = 1536
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12


class Embeddings(nn.Module):
    """Token, position and segment embeddings, summed and normalized."""

    position_ids: Tensor

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.register_buffer("position_ids", torch.arange(config.max_position_embeddings).unsqueeze(0))

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """[batch, sequence] of ids to [batch, sequence, hidden]."""
        positions = self.position_ids[:, : input_ids.shape[1]]
        segments = self.token_type_embeddings.weight[0] if token_type_ids is None else self.segments(token_type_ids)
        summed: Tensor = self.word_embeddings(input_ids) + segments + self.position_embeddings(positions)
        normalized: Tensor = self.LayerNorm(summed)
        return normalized

    def segments(self, token_type_ids: Tensor) -> Tensor:
        """Embeddings of the segment ids, [batch, sequence, hidden]."""
        looked_up: Tensor = self.token_type_embeddings(token_type_ids)
        return looked_up


class SelfAttention(nn.Module):
    """Multi-head attention. Its product is spelled out, so that a quantizer finds every MatMul."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.head_size = config.hidden_size // config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def split(self, hidden: Tensor) -> Tensor:
        """[batch, sequence, hidden] to [batch, heads, sequence, head_size]."""
        return hidden.unflatten(-1, (self.heads, self.head_size)).transpose(1, 2)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """`bias` is added to the scores, [batch, 1, 1, sequence]; returns [batch, sequence, hidden]."""
        query, key, value = (self.split(project(hidden)) for project in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / math.sqrt(self.head_size) + bias
        return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(-2)


class ResidualOutput(nn.Module):
    """A projection, added to its residual and normalized."""

    def __init__(self, inner_size: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """[…, inner] and [batch, sequence, hidden] to [batch, sequence, hidden]."""
        normalized: Tensor = self.LayerNorm(self.dense(hidden) + residual)
        return normalized


class Attention(nn.Module):
    """Self-attention with its residual; `self` is the checkpoint's own name for the inner module."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = ResidualOutput(config.hidden_size, config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """[batch, sequence, hidden] to the same."""
        attended: Tensor = self.output(self.self(hidden, bias), hidden)
        return attended


class Intermediate(nn.Module):
    """The feed-forward network's wide half."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, sequence, hidden] to [batch, sequence, intermediate], through the exact GELU."""
        return nn.functional.gelu(self.dense(hidden))


class Layer(nn.Module):
    """One encoder layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config.intermediate_size, config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """[batch, sequence, hidden] to the same."""
        attended = self.attention(hidden, bias)
        fed: Tensor = self.output(self.intermediate(attended), attended)
        return fed


class Encoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """[batch, sequence, hidden] to the same."""
        for layer in self.layer:
            hidden = layer(hidden, bias)
        return hidden


class Pooler(nn.Module):
    """Part of every checkpoint; a sentence encoder does not use it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)


class SentenceEncoder(nn.Module):
    """Token ids to one unit vector a text."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Ids and a mask of ones and zeros, both int64 [batch, sequence], to embeddings [batch, hidden] of norm 1."""
        hidden = self.embeddings(input_ids, token_type_ids)
        mask = attention_mask.to(hidden.dtype)
        hidden = self.encoder(hidden, (1.0 - mask[:, None, None, :]) * torch.finfo(hidden.dtype).min)
        weights = mask.unsqueeze(-1)
        mean = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
        return mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def sentence_encoder(
    vocab_size: int = 30_522,
    hidden_size: int = 384,
    num_hidden_layers: int = 6,
    num_attention_heads: int = 12,
    intermediate_size: int = 1536,
    max_position_embeddings: int = 512,
    type_vocab_size: int = 2,
    layer_norm_eps: float = 1e-12,
) -> nn.Module:
    """An untrained sentence encoder; arguments as in `BertConfig`."""
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_position_embeddings,
        type_vocab_size=type_vocab_size,
        layer_norm_eps=layer_norm_eps,
    )
    return SentenceEncoder(config)
