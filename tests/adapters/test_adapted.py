"""Files named in a request are attached for it, and told of in the record."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from daguerre import RequestError, TextToImage
from daguerre.adapters.adapted import AdapterFile, adapted, weighted
from daguerre.adapters.formats import save_lora
from daguerre.adapters.lora_file import adapter_sha256
from tests.adapters.made import apart, outputs, random_lora, random_word
from tests.toy import toy


@torch.no_grad()
def test_all_files_are_attached_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = toy("sd1")
    lora, word = random_lora(model), random_word(model, "zwx")
    save_lora(tmp_path / "mine.safetensors", lora, model, "kohya")
    save_lora(tmp_path / "folder", lora, model, "peft")
    word.save(tmp_path / "word.safetensors")
    files = [
        AdapterFile(kind="embedding", path=tmp_path / "word.safetensors"),
        AdapterFile(kind="lora", path=tmp_path / "mine.safetensors", weight=0.5, text_weight=0.25),
        AdapterFile(kind="lora", path=tmp_path / "folder", weight=-0.2),
    ]
    request, plain = TextToImage(prompt="a zwx"), outputs(model)
    with adapted(model, files) as (knowing, used):
        drawn, said = outputs(model), knowing.encode(request)[0].tokens
    assert apart(outputs(model), plain) == 0
    with lora.attach(model, 0.5, 0.25), lora.attach(model, -0.2), word.attach(model) as other:
        assert apart(outputs(model), drawn) <= 1e-5
        assert torch.allclose(other.encode(request)[0].tokens, said, atol=1e-4)
    assert [(u.kind, u.name, u.weight, u.text_weight) for u in used] == [
        ("embedding", "zwx", 1.0, None), ("lora", "mine", 0.5, 0.25), ("lora", "folder", -0.2, None),
    ]  # fmt: skip
    assert used[1].sha256 == hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    assert used[2].sha256 == adapter_sha256(tmp_path / "folder")
    assert not caplog.records
    more = {"lora_unet_x.lora_down.weight": torch.ones(1, 2), "lora_unet_x.lora_up.weight": torch.ones(2, 1)}
    save_file({**load_file(tmp_path / "mine.safetensors"), **more}, tmp_path / "more.safetensors")
    with (
        caplog.at_level(logging.WARNING),
        adapted(model, [AdapterFile(kind="lora", path=tmp_path / "more.safetensors")]),
    ):
        assert "2 tensors fit no layer" in caplog.text


@torch.no_grad()
def test_files_for_one_pass_are_attached_in_it_alone(tmp_path: Path) -> None:
    model = toy("sd1")
    for seed, name in enumerate(("always", "small", "large")):
        save_lora(tmp_path / f"{name}.safetensors", random_lora(model, seed), model, "kohya")
    always, small, large = (
        AdapterFile(kind="lora", path=tmp_path / f"{name}.safetensors", name=name, during=during)
        for name, during in (("always", ""), ("small", "first"), ("large", "second"))
    )
    expected = []
    for pair in ([always], [always, replace(small, during="")], [always, replace(large, during="")]):
        with adapted(model, pair):
            expected.append(outputs(model))
    plain = outputs(model)
    with adapted(model, [always, small]) as (inner, _), adapted(inner, [large]) as (whole, used):
        assert apart(outputs(model), expected[0]) == 0
        for which, told in (("first", expected[1]), ("second", expected[2])):
            with whole.during(which) as one:
                assert apart(outputs(model), told) == 0
                assert one.attached == ("always", "small" if which == "first" else "large")
        assert apart(outputs(model), expected[0]) == 0
        assert (used[0].name, used[0].during) == ("large", "second")
    assert apart(outputs(model), plain) == 0
    assert min(apart(a, b) for a, b in ((plain, expected[0]), expected[:2], expected[1:])) > 0.01
    (tmp_path / "large.safetensors").write_bytes((tmp_path / "small.safetensors").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"large\.safetensors"), adapted(model, [large]):
        pass


def test_the_hash_of_a_folder_is_that_of_all_its_weights(tmp_path: Path) -> None:
    model, lora = toy("sd1"), random_lora(toy("sd1"))
    save_lora(tmp_path / "peft", lora, model, "peft")
    before = adapter_sha256(tmp_path / "peft")
    with torch.no_grad():
        lora.factors["text.layers.0.q"].up.add_(1)
    save_lora(tmp_path / "other", lora, model, "peft")
    assert adapter_sha256(tmp_path / "other") != before


@pytest.mark.parametrize("text", ["", ":1.0", "a:1..2"])
def test_a_weight_without_a_file_is_not_the_current_folder(text: str) -> None:
    with pytest.raises(RequestError, match=r"--lora .*write it as FILE, FILE:WEIGHT"):
        weighted(text, "--lora ")
    assert weighted("a:0.5", "--lora ").weight == 0.5
