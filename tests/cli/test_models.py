"""Models from the Hub, against a real server on loopback; names on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from daguerre.checkpoints.identify import identify, read_component
from daguerre.checkpoints.writer import write_diffusers
from daguerre.cli import models
from daguerre.cli.exit import FAILED, UNUSABLE, Failure
from daguerre.cli.flags import ModelFlags
from daguerre.cli.hub import choose
from daguerre.cli.hub import pull as pull_from_hub
from daguerre.files.reader import open_checkpoint
from daguerre.text.tokenizer import tokenizer_files
from tests.cli.stand_in_hub import Hub, Repository, files_of, running
from tests.toy import toy, write_toy

NEEDLESS = (
    "pipeline.py",
    "run.exe",
    "old.ckpt",
    "unet/diffusion_pytorch_model.bin",
    "safety_checker/model.safetensors",
)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The same toy as a file and as a diffusers folder with company: files by name."""
    folder = tmp_path_factory.mktemp("toys")
    single = write_toy(toy("sd1"), folder / "toy.safetensors")
    checkpoint = open_checkpoint(single)
    identity = identify(checkpoint)
    states = {part.name: read_component(checkpoint, identity, part.name) for part in identity.parts}
    write_diffusers(folder / "toy", states, identity, tokenizer_files())
    company = dict.fromkeys((*NEEDLESS, "unet/diffusion_pytorch_model.fp16.safetensors"), b"x")
    return {"toy.safetensors": single.read_bytes(), "README.md": b"hello", "run.py": b"x"}, {
        **files_of(folder / "toy"),
        **company,
    }


@pytest.fixture
def hub(toys, tmp_path, monkeypatch):
    """The stand-in, and huggingface_hub turned to it as HF_ENDPOINT and HF_HOME would do in a new process."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    single, folder = (Repository(files) for files in toys)
    with running(Hub({"ann/single": single, "ann/folder": folder})) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY"):
            monkeypatch.setattr(constants, name, True)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # no less is written at once
        monkeypatch.setenv("DAGUERRE_MODELS", str(tmp_path / "mine"))
        monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's retries
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def pull(hub, capsys):
    def pull(repo, **options):
        hub.requests.clear()
        pull_from_hub(repo, **options)
        return Path(capsys.readouterr().out.strip())

    return pull


@pytest.fixture
def refused(pull):
    def refused(repo, *words, code, **options):
        with pytest.raises(Failure) as caught:
            pull(repo, **options)
        message = str(caught.value)
        assert caught.value.code == code
        assert message.startswith(repo)
        assert [word for word in words if word not in message] == []
        assert "\n" not in message
        assert len(message) < 300
        return message

    return refused


def listed(capsys):
    models.show_all(json_lines=True)
    return {entry["name"]: entry for entry in map(json.loads, capsys.readouterr().out.splitlines())}


def same_weights(name):
    drawn, written = ModelFlags(model=name, device="cpu", dtype="float32").load(), toy("sd1")
    return all(
        torch.equal(tensor, drawn.parts[part].state_dict()[key])
        for part, module in written.parts.items()
        for key, tensor in module.state_dict().items()
    )


def downloads(folder):
    return sorted(path.name for path in folder.rglob("*") if path.suffix in (".part", ".incomplete"))


def test_a_single_file_is_pulled_listed_and_loaded(pull, hub, capsys):
    path = pull("ann/single")
    assert path.read_bytes() == hub.repositories["ann/single"].files["toy.safetensors"]
    entry = listed(capsys)["ann/single"]
    assert (entry["path"], entry["bytes"], entry["source"]) == (str(path), path.stat().st_size, "Hub")
    assert same_weights("ann/single")
    assert hub.asked(".py") == hub.asked("README") == []
    assert pull("ann/single") == path
    assert hub.asked("/store/") == [], "what is here is not fetched again"


def test_a_folder_is_pulled_without_what_drawing_does_not_need(pull, hub, capsys):
    folder = pull("ann/folder")
    wanted = {name for name in hub.repositories["ann/folder"].files if name not in NEEDLESS and "fp16" not in name}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == wanted
    assert len(hub.asked("/store/")) == 3
    assert [name for name in NEEDLESS if hub.asked(name) or hub.asked(name, "HEAD")] == []
    assert listed(capsys)["ann/folder"]["path"] == str(folder)
    assert same_weights("ann/folder")


def test_the_record_names_a_pulled_model_as_it_is_found_again(pull):
    pull("ann/single")
    pull("ann/folder")
    for name in ("ann/single", "ann/folder"):
        assert ModelFlags(model=name, device="cpu", dtype="float32").load().name == name


def test_a_login_is_for_the_hub_and_not_for_its_store(pull, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull("ann/single")
    assert {request.authorization for request in hub.asked("/api/")} == {"Bearer hf_secret"}
    assert {request.authorization for request in hub.asked("/store/")} == {None}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_goes_on_where_it_broke(pull, hub, ranges):
    """Without the server's help it begins again, and does not append."""
    hub.cuts, hub.ranges = [100_000, 50_000], ranges
    data = hub.repositories["ann/single"].files["toy.safetensors"]
    assert pull("ann/single").read_bytes() == data
    second = 150_000 if ranges else 50_000
    assert [request.range for request in hub.asked("/store/")] == [None, "bytes=100000-", f"bytes={second}-"]


def test_a_stopped_download_goes_on_in_the_next_process(pull, hub, refused, tmp_path):
    """The server gives up again and again, so the command does; the next one begins at the byte it had."""
    hub.cuts = [100_000, *[0] * 5]
    refused("ann/single", "no connection to the Hub", hub.url, "goes on where it stopped", code=FAILED)
    assert len(downloads(tmp_path)) == 1
    huggingface_hub.close_session()
    path = pull("ann/single")
    assert path.read_bytes() == hub.repositories["ann/single"].files["toy.safetensors"]
    assert [request.range for request in hub.asked("/store/")] == ["bytes=100000-"]
    assert downloads(tmp_path) == []


def test_a_damaged_download_is_not_kept(pull, hub, refused, tmp_path, capsys):
    hub.damaged = True
    refused("ann/single", "toy.safetensors arrived damaged", "fetch it again", code=FAILED)
    assert downloads(tmp_path) == []
    assert "ann/single" not in listed(capsys)
    hub.damaged = False
    assert pull("ann/single").read_bytes() == hub.repositories["ann/single"].files["toy.safetensors"]


@pytest.mark.parametrize("length", [50, 10**8])
def test_a_wrong_beginning_is_found_out(pull, hub, refused, tmp_path, length):
    digest = hub.repositories["ann/single"].etag("toy.safetensors")
    part = tmp_path / f"hub/models--ann--single/blobs/{digest}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * length)
    if length == 50:
        refused("ann/single", "arrived damaged", code=FAILED)
    assert pull("ann/single").read_bytes() == hub.repositories["ann/single"].files["toy.safetensors"]


def test_offline_takes_what_is_here_and_names_what_is_missing(pull, hub, refused):
    refused("ann/folder", "not on this machine", "without --offline", code=FAILED, offline=True)
    folder = pull("ann/folder")
    assert pull("ann/folder", offline=True) == folder
    unet = folder / "unet/diffusion_pytorch_model.safetensors"
    unet.unlink()
    refused("ann/folder", unet.relative_to(folder).as_posix(), "without --offline", code=FAILED, offline=True)
    assert hub.requests == []


def test_offline_with_one_file(pull, hub, refused):
    path = pull("ann/single", file="toy.safetensors")
    assert pull("ann/single", file="toy.safetensors", offline=True) == path
    refused(
        "ann/single", "other.safetensors is not on this machine", code=FAILED, file="other.safetensors", offline=True
    )
    assert hub.requests == []


def test_the_environment_can_forbid_the_network(pull, hub, refused, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("ann/single", "not on this machine", code=FAILED)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("refusal", "words", "code"),
    [
        ((401, ""), ["no such model, or it is private", "hf auth login"], UNUSABLE),
        ((403, "GatedRepo"), ["accept its terms at", "/ann/single", "hf auth login"], UNUSABLE),
        ((404, "RepoNotFound"), ["no such model"], UNUSABLE),
        ((500, ""), ["answered 500", "try again later"], FAILED),
        ((429, ""), ["answered 429"], FAILED),
    ],
)
@pytest.mark.parametrize("place", ["/api/", "/resolve/"])
def test_a_refusal_is_one_kind_sentence(hub, refused, refusal, words, code, place):
    hub.refusals[place] = refusal
    refused("ann/single", *words, code=code)


def test_what_the_hub_does_not_have(refused, hub):
    refused("ann/nothing", hub.url, "no such model", code=UNUSABLE)
    refused("ann/single", "'v9'", "--revision", code=UNUSABLE, revision="v9")
    refused("ann/single", "'toi.safetensors'", "toy.safetensors", code=UNUSABLE, file="toi.safetensors")
    refused("ann/single", "run.py is no file of weights", code=UNUSABLE, file="run.py")
    refused("ann/single/more", "OWNER/NAME", code=UNUSABLE)
    assert hub.asked("/store/") == []


def test_a_server_that_is_gone(refused, monkeypatch):
    with running(Hub()) as gone:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", gone.url)
    refused("ann/single", f"no connection to the Hub at {gone.url}", "--offline", code=FAILED)


def test_names_that_point_outside_are_not_followed(hub, refused, tmp_path):
    before = {path for path in tmp_path.rglob("*") if "hub" not in path.parts}
    single = hub.repositories["ann/single"].files["toy.safetensors"]
    for name in (
        "../../../../escaped.safetensors",
        "/tmp/escaped.safetensors",
        "unet/../../../../../escaped.safetensors",
    ):
        hub.repositories["ann/evil"] = Repository({name: single, **hub.repositories["ann/folder"].files})
        refused("ann/evil", "files outside of itself", code=UNUSABLE)
        refused("ann/evil", "files outside of itself", code=UNUSABLE, file=name)
        with pytest.raises(ValueError, match=r"relative|filename"):  # nor would the library follow them
            huggingface_hub.hf_hub_download("ann/evil", name)
    hub.etag = "../../../../escaped"
    refused("ann/single", "ETag", code=FAILED)
    after = {path for path in tmp_path.rglob("*") if "hub" not in path.parts}
    assert before == after
    assert not list(tmp_path.rglob("escaped*"))
    assert not Path("/tmp/escaped.safetensors").exists()


def test_another_revision_has_a_name_of_its_own(hub, pull, capsys):
    first = pull("ann/single")
    old = hub.repositories["ann/single"]
    hub.repositories["ann/single"] = Repository({"toy.safetensors": old.files["toy.safetensors"]}, ("v2",))
    second = pull("ann/single", revision="v2")
    assert first != second
    assert listed(capsys).keys() == {"tintype", "ann/single", "ann/single@v2"}
    assert models.resolve("ann/single@v2") == second


def test_several_files_of_one_repository(hub, pull, refused, capsys):
    data = hub.repositories["ann/single"].files["toy.safetensors"]
    hub.repositories["ann/several"] = Repository({"a.safetensors": data, "b.safetensors": data, "c.ckpt": b"x"})
    refused("ann/several", "--file", "a.safetensors, b.safetensors", code=UNUSABLE)
    only = pull("ann/several", file="b.safetensors")
    assert models.resolve("ann/several") == only
    pull("ann/several", file="c.ckpt")
    assert listed(capsys).keys() == {"tintype", "ann/several/b.safetensors", "ann/several/c.ckpt"}


def test_models_of_other_programs_are_not_listed(hub, pull, capsys):
    hub.repositories["ann/words"] = Repository({"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x"})
    pull("ann/words")
    assert listed(capsys).keys() == {"tintype"}


def test_own_files_are_found_by_name(hub, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    path = write_toy(toy("sd1"), mine / "portrait.safetensors")
    (mine / "notes.txt").write_text("no model")
    assert models.find("portrait") == ("portrait", path, "your folder")
    assert models.find(str(path)) == ("portrait", path, "path")
    with pytest.raises(Failure, match="did you mean 'portrait'"):
        models.find("portait")
    with pytest.raises(Failure, match="daguerre models pull ann/other"):
        models.find("ann/other")


U, V, T = "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"
SHARDS = [f"{U}-0000{i}-of-00002.safetensors" for i in (1, 2)]
HALF_SHARDS = [f"{U}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
REST = ["model_index.json", "unet/config.json", "tokenizer/merges.txt"]
BOTH = [f"{place}{kind}.safetensors" for place in (V, T) for kind in ("", ".fp16")]
INDEX, HALF_INDEX = f"{U}.safetensors.index.json", f"{U}.safetensors.index.fp16.json"


@pytest.mark.parametrize(
    ("unet", "variant", "chosen"),
    [
        ([f"{U}.safetensors", f"{U}.fp16.safetensors", f"{U}.non_ema.safetensors"], None, [f"{U}.safetensors"]),
        ([f"{U}.safetensors", f"{U}.fp16.safetensors"], "fp16", [f"{U}.fp16.safetensors"]),
        ([f"{U}.fp16.safetensors", f"{U}.bin"], None, [f"{U}.fp16.safetensors"]),
        ([*SHARDS, INDEX, *HALF_SHARDS, HALF_INDEX], None, [*SHARDS, INDEX]),
        ([*SHARDS, INDEX, *HALF_SHARDS, HALF_INDEX], "fp16", [*HALF_SHARDS, HALF_INDEX]),
        ([*SHARDS, INDEX, f"{U}.safetensors"], None, [f"{U}.safetensors"]),
    ],
)
def test_of_weights_stored_several_times_one_copy_is_chosen(unet, variant, chosen):
    names = [*unet, *BOTH, *REST, "all-in-one.safetensors", "safety_checker/model.safetensors", "vae/readme.md"]
    kind = ".fp16" if variant else ""
    assert sorted(choose("a/b", names, None, variant)) == sorted(
        [*chosen, f"{V}{kind}.safetensors", f"{T}{kind}.safetensors", *REST]
    )


def test_a_network_without_safe_weights_is_named():
    with pytest.raises(Failure, match="for unet in it"):
        choose("a/b", [f"{U}.bin", f"{V}.safetensors", *REST], None, None)
    with pytest.raises(Failure, match="of variant fp16 for unet and vae in it"):
        choose("a/b", [f"{U}.safetensors", f"{V}.safetensors", *REST], None, "fp16")
    with pytest.raises(Failure, match="no weights"):
        choose("a/b", ["README.md"], None, None)


def test_in_a_process_of_its_own(hub, tmp_path):
    """Through the environment, as a user sets it; progress stays on standard error."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "DAGUERRE_MODELS": str(tmp_path / "mine"),
    }  # fmt: skip

    def run(*arguments):
        command = [sys.executable, "-m", "daguerre.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    done = run("models", "pull", "ann/folder")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip(), "model_index.json").is_file()
    small = ("--steps", "1", "--size", "64x64", "--seed", "1", "--device", "cpu", "--json")
    done = run("generate", "a red apple", "--model", "ann/folder", *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / json.loads(done.stdout)["path"]).is_file()
    done = run("models", "pull", "ann/nothing")
    assert (done.returncode, done.stdout) == (UNUSABLE, "")
    assert done.stderr.startswith("daguerre: ann/nothing: the Hub at")
    assert len(done.stderr.splitlines()) == 1
