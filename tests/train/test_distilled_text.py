import math
from itertools import islice

import pytest
import torch
from torch.nn import functional as F

from daguerre.models.clip import CLIPText, CLIPTextConfig
from daguerre.models.vision import CLIPVision
from daguerre.train import loop
from daguerre.train.contrastive import Towers
from daguerre.train.distilled_text import distillation, lexicon, meaning_loss, text_of
from daguerre.train.illustrations import tokenize
from daguerre.train.phrasebook import Text
from tests.train import toys
from tests.train.line import finish, quick, same

TOPICS = ("dog puppy hound", "car truck bus", "apple pear plum")


def teacher(phrases):
    """What a phrase is about, as a unit vector with a little of its own."""
    vectors = []
    for phrase in phrases:
        about = [any(word in topic.split() for word in phrase.split()) for topic in TOPICS]
        own = [0.1 * math.sin(ord(phrase[0]) * k) for k in range(5)]
        vectors.append([*map(float, about), *own])
    return F.normalize(torch.tensor(vectors), dim=-1)


BOOK = {
    "captions": [Text(f"a {w}", f"a {w}") for w in ("dog", "car", "apple", "truck", "pear")],
    "words": [Text(w, w) for topic in TOPICS for w in topic.split()],
    "names": [Text("chien", "dog"), Text("voiture", "car"), Text("pomme", "apple")],
    "scenes": [Text(f"a {c} {w}", f"a {c} {w}", (f"{c} thing",)) for c in ("red", "blue") for w in ("dog", "car")],
}


@pytest.fixture
def words(tmp_path):
    return lexicon(BOOK, teacher, tmp_path / "teacher.safetensors")


def recipe(words, pictures):
    torch.manual_seed(0)
    towers = Towers(CLIPText(CLIPTextConfig(width=16, layers=1, heads=2)), CLIPVision(toys.VISION))
    torch.nn.init.normal_(towers.text.token.weight, std=0.02)
    return distillation(towers, words, pictures, 32, 0, tokenize)


def said(pupil, phrases):
    with torch.no_grad():
        return F.normalize(pupil.text(tokenize(phrases)).pooled, dim=-1)


def test_words_of_other_languages_land_on_what_they_mean(words, pictures, tmp_path):
    made = recipe(words, pictures)
    before = said(made.trained, ["voiture", "dog", "car", "apple"])
    records = finish(made, quick(steps=100, save_every=1000, batch=32), tmp_path / "run")
    after = said(made.trained, ["voiture", "dog", "car", "apple"])
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert (after[0] @ after[1:].T).argmax() == 1
    assert after[0] @ after[2] - after[0] @ after[1] > before[0] @ before[2] - before[0] @ before[1] + 0.1


def test_it_resumes_to_the_same_weights(words, pictures, tmp_path):
    stage = quick(steps=5, batch=32)
    finish(recipe(words, pictures), stage, tmp_path / "whole")
    first = loop.train(recipe(words, pictures), stage, tmp_path / "parts")
    assert [record["step"] for record in islice(first, 3)] == [1, 2, 3]
    first.close()
    finish(recipe(words, pictures), stage, tmp_path / "parts")
    same(tmp_path / "whole", tmp_path / "parts")


def test_the_loss_is_least_where_the_student_is_the_teacher():
    vectors = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    cosine, relation = meaning_loss(3 * vectors, 2 * vectors, vectors)
    assert cosine.item() == pytest.approx(0, abs=1e-5)
    assert relation.item() == pytest.approx(0, abs=1e-5)
    cosine, relation = meaning_loss(vectors.flip(0), vectors.flip(0), vectors)
    assert cosine.item() > 0.5
    assert relation.item() > 1


def test_the_teacher_is_asked_once(words, tmp_path):
    def silent(phrases):
        raise AssertionError(phrases)

    again = lexicon(BOOK, silent, tmp_path / "teacher.safetensors")
    assert torch.equal(again.vectors, words.vectors)
    asked = []
    more = {**BOOK, "words": [*BOOK["words"], Text("hound dog", "hound dog")]}
    lexicon(more, lambda phrases: asked.append(phrases) or teacher(phrases), tmp_path / "teacher.safetensors")
    assert asked == [["hound dog"]]


def test_a_batch_takes_its_share_of_each_group(words, pictures):
    made = recipe(words, pictures)
    drawn = made._drawn(0)
    counts = {key: sum(int(i) in places for i in drawn) for key, places in words.groups.items()}
    assert counts == {"captions": 10, "words": 6, "names": 8, "scenes": 8}
    assert torch.equal(made._drawn(0), drawn)
    assert not torch.equal(made._drawn(1), drawn)


def test_kinds_are_known_of_scenes_only(words):
    assert words.kinds[words.groups["words"].start].tolist() == [-1, -1]
    assert words.kinds[words.groups["scenes"].start].tolist() == [0, 1]  # blue, red: a red dog


def test_only_the_text_encoder_is_taken_over(words, pictures):
    made = recipe(words, pictures)
    fresh = CLIPText(CLIPTextConfig(width=16, layers=1, heads=2))
    fresh.load_state_dict(dict(text_of(made.trained.state_dict())))
    assert torch.equal(fresh.token.weight, made.trained.text.token.weight)
