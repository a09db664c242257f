"""The teacher of word meanings against transformers, at toy width with random weights; the limits are absolute."""

import torch
import transformers
from torch.nn import functional as F

from daguerre.train.minilm import Bert, BertConfig, MiniLM, from_published

THEIRS = transformers.BertConfig(
    vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
    max_position_embeddings=16,
)  # fmt: skip
OURS = BertConfig(width=32, layers=3, heads=4, vocabulary=50, context=16)


def both():
    torch.manual_seed(0)
    theirs = transformers.BertModel(THEIRS).eval()
    ours = Bert(OURS)
    ours.load_state_dict(from_published(theirs.state_dict()))
    return theirs, ours.eval()


@torch.no_grad()
def test_states_of_padded_texts():
    theirs, ours = both()
    ids = torch.randint(0, 50, (3, 9))
    text = torch.arange(9) < torch.tensor([[9], [4], [6]])
    expected = theirs(ids, attention_mask=text.long()).last_hidden_state
    assert (ours(ids, text) - expected)[text].abs().max() < 1e-5


@torch.no_grad()
def test_a_sentence_is_the_mean_of_its_states():
    from tokenizers import Tokenizer, models, pre_tokenizers

    theirs, ours = both()
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["a", "red", "apple", "cats", "in", "?"])}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=12)  # as the published one does
    sentences = ["a red apple in a red apple", "cats", "a red apple"]
    made = MiniLM(ours, tokenizer)
    for sentence, vector in zip(sentences, made(sentences), strict=True):
        ids = torch.tensor([tokenizer.encode(sentence).ids])
        mean = theirs(ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1)[0]
        assert (vector - F.normalize(mean, dim=-1)).abs().max() < 1e-5
    assert made.words == ["apple", "cats", "red"]
