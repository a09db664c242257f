import pytest
import torch
from safetensors.torch import save_file

from daguerre.adapters.adapted import adapted
from daguerre.adapters.named import called, find, networks_of, words_of
from daguerre.adapters.textual_inversion import TextualInversion
from daguerre.request import Hires, RequestError, TextToImage
from tests.toy import toy


@pytest.fixture
def folder(tmp_path):
    """A file with another name in its metadata, one that is damaged, and a peft folder."""
    save_file({"x": torch.zeros(1)}, tmp_path / "v1-000010.safetensors", {"ss_output_name": "Sticker Art"})
    (tmp_path / "broken.safetensors").write_bytes(b"not a file")
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "adapter_config.json").write_text("{}")
    (tmp_path / "peft" / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not an adapter")
    return tmp_path


def asked(prompt, folder, **changes):
    files = networks_of(TextToImage(prompt=prompt, **changes), folder, folder)
    return [(file.kind, file.path.name, file.weight, file.text_weight, file.name, file.ranks) for file in files]


@pytest.mark.parametrize("name", ["v1-000010", "V1-000010", "sticker art", "Sticker Art"])
def test_a_file_is_called_by_its_name_or_what_its_metadata_say(folder, name):
    assert find(name, folder, "LoRA") == folder / "v1-000010.safetensors"


def test_a_peft_folder_is_called_by_its_name(folder):
    assert called("peft", folder) == [folder / "peft"]
    assert called("adapter_model", folder) == []
    assert called("notes", folder) == []


def test_tags_become_files_with_their_weights(folder):
    prompt = "<lora:peft:0.5:0.7:3> a <hypernet:broken:0.4><lora:sticker art:2>"
    assert asked(prompt, folder) == [
        ("lora", "peft", 0.7, 0.5, "peft", 3),
        ("hypernetwork", "broken.safetensors", 0.4, None, "broken", None),
        ("lora", "v1-000010.safetensors", 2.0, None, "sticker art", None),
    ]


def test_tags_in_comments_and_negative_prompts_ask_for_nothing(folder):
    assert asked("a # <lora:peft>", folder) == []
    assert asked("a # <lora:peft>", folder, comments=False) != []
    assert asked("a", folder, negative_prompt="<lora:peft>") == []


def test_an_embedding_that_a_prompt_names_is_read_once(tmp_path):
    model, path = toy(), tmp_path / "ink.safetensors"
    TextualInversion.new(model, "ink", 2, "", seed=1).save(path)
    request = TextToImage(prompt="a drawing in ink")
    files = words_of(request, tmp_path, model)
    path.write_bytes(b"gone")
    with adapted(model, files) as (inked, (used,)):
        assert used.name == "ink"
        assert not torch.equal(inked.encode(request)[0].tokens, model.encode(request)[0].tokens)


def passes(hires, folder, prompt="a <lora:peft:0.5>", **changes):
    files = networks_of(TextToImage(prompt=prompt, hires=hires, **changes), folder, folder)
    return [(file.name, file.weight, file.during) for file in files]


def test_each_pass_has_what_its_own_prompt_names(folder):
    both = [("peft", 0.5, "first"), ("peft", 0.7, "second"), ("broken", 1.0, "second")]
    assert passes(Hires(prompt="b <lora:peft:0.7><hypernet:broken>"), folder) == both
    assert passes(Hires(prompt="b"), folder) == [("peft", 0.5, "first")]
    assert passes(Hires(prompt="<lora:peft>"), folder, "a") == [("peft", 1.0, "second")]
    for same in (None, Hires(), Hires(prompt="# <lora:broken>"), Hires(negative_prompt="<lora:broken>")):
        assert passes(same, folder) == [("peft", 0.5, "")]


@pytest.mark.parametrize(
    ("name", "words"), [("stiker art", "did you mean 'Sticker Art'"), ("zzzzz", "the folder has 3 others")]
)
def test_an_unknown_name_is_refused(folder, name, words):
    with pytest.raises(RequestError, match=words):
        find(name, folder, "LoRA")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RequestError, match="there is no such folder"):
        find("x", tmp_path / "none", "LoRA")
