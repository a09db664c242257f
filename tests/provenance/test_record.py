import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from daguerre.provenance.record import Record, RecordError, UsedAdapter, differences, library_versions, pixel_sha256
from daguerre.request import TextToImage

from .records import ANY_TEXT, TRAPS, record, requests


@given(requests(ANY_TEXT), st.none() | ANY_TEXT, ANY_TEXT)
@example(TextToImage(prompt=TRAPS[4], negative_prompt=TRAPS[7]), TRAPS[1], TRAPS[3])
def test_reading_what_was_written_gives_the_record(request, vae, model):
    written = record(request=request, vae=vae, model=model)
    text = written.to_json()
    assert "\n" not in text
    assert Record.from_json(text.encode().decode()) == written


def test_the_surroundings_are_those_of_this_program():
    made = record()
    assert made.versions == library_versions()
    assert list(made.versions) == ["daguerre", "torch", "numpy", "Pillow", "safetensors"]
    assert made.python == ".".join(map(str, sys.version_info[:3]))
    assert made.created.endswith("+00:00")
    assert (made.noise, made.mode) == ("cpu", "exact")


def test_a_picture_of_many_is_asked_for_again_alone():
    assert record().again() == TextToImage(prompt="a red apple", negative_prompt="blurry", seed=123, count=1)


def test_adapters_are_kept_in_their_order_and_older_records_have_none():
    used = (
        UsedAdapter(kind="embedding", name="zwx", sha256="a" * 64),
        UsedAdapter(kind="lora", name="ink", sha256="b" * 64, weight=0.5, text_weight=-1, during="second"),
    )
    made = record(adapters=used)
    assert Record.from_json(made.to_json()).adapters == used
    older = {name: value for name, value in asdict(made).items() if name not in ("adapters", "hires_template")}
    assert Record.from_json(json.dumps(older)).adapters == ()
    assert differences(made, record()) == [
        "LoRAs and embeddings: zwx (aaaaaaaaaa, 1), ink (bbbbbbbbbb, 0.5, second pass) then, none now"
    ]


def changed(**changes):
    return json.dumps({**asdict(record()), **changes})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"seed": ' + "9" * 10_000 + "}", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no field 'created'"),
        (changed(lens="wide"), "field 'lens' is unknown to this version; update daguerre"),
        (changed(seed="1"), "field 'seed' is of the wrong type"),
        (changed(threads=True), "field 'threads' is of the wrong type"),
        (changed(vae=["x"]), "field 'vae' is of the wrong type"),
        (changed(versions={"torch": 2}), "field 'versions' is not a table"),
        (changed(request={"prompt": "a", "steps": 1e9}), "field 'request' is wrong: steps is 1000000000.0"),
        (changed(request={"prompt": ["a"]}), "field 'request' is wrong: prompt must be a text"),
        (changed(request={"prompt": "a", "emphasis": []}), "field 'request' is wrong: emphasis"),
        (changed(request={"prompt": "a", "guidance_interval": "ab"}), "field 'request' is wrong"),
        (changed(request={"prompt": "a", "lens": 1}), "field 'request' is wrong: unknown field 'lens'"),
        (changed(request={}), "field 'request' is wrong"),
        (changed(adapters=[{**vars(UsedAdapter(kind="lora", name="x", sha256="")), "during": "third"}]), "during is"),
        (changed(adapters=3), "field 'adapters' is wrong"),
        (changed(adapters=[3]), "field 'adapters' is wrong"),
        (changed(adapters=[{"kind": "lora", "name": "x"}]), "field 'adapters' is wrong"),
        (changed(adapters=[{"kind": "lora", "name": 3, "sha256": "x"}]), "field 'adapters' is wrong: kind, name"),
        (changed(adapters=[{"kind": "lora", "name": "x", "sha256": "x", "weight": float("nan")}]), "finite numbers"),
        (changed(request=None), "field 'request' is wrong"),
    ],
)
def test_anything_else_is_an_error_that_names_the_field(text, reason):
    with pytest.raises(RecordError, match=reason.replace("(", r"\(")):
        Record.from_json(text)


def test_the_pixel_digest_is_of_the_pixels_and_their_arrangement():
    picture = Image.new("RGB", (4, 2), (1, 2, 3))
    digest = pixel_sha256(picture)
    assert digest == hashlib.sha256(b"4x2 RGB " + bytes([1, 2, 3]) * 8).hexdigest()
    assert pixel_sha256(picture.copy()) == digest
    assert pixel_sha256(Image.new("RGB", (2, 4), (1, 2, 3))) != digest
    picture.putpixel((3, 1), (1, 2, 4))
    assert pixel_sha256(picture) != digest


def test_nothing_differs_between_two_runs_that_give_the_same_pixels():
    then = record()
    now = replace(
        then,
        request=replace(then.again(), sampler="DPM++ 2M Karras"),
        index=0,
        model="other name",
        created="2031-01-01T00:00:00+00:00",
        python="3.14.0",
    )
    assert differences(then, now) == []


def test_everything_that_could_change_the_pixels_is_named():
    then = record()
    now = replace(
        then,
        request=replace(then.request, prompt="a pear", width=768),
        seed=124,
        model_sha256="e" * 64,
        vae_sha256="d" * 64,
        threads=8,
        versions={**then.versions, "daguerre": "9.0", "torch": "3.0"},
    )
    assert differences(then, now) == [
        f"model: {then.model_sha256} then, {'e' * 64} now",
        f"VAE: None then, {'d' * 64} now",
        "CPU threads: 2 then, 8 now",
        "prompt: 'a red apple' then, 'a pear' now",
        "seed: 123 then, 124 now",
        "width: 512 then, 768 now",
        f"daguerre: version {then.versions['daguerre']} then, 9.0 now",
        f"torch: version {then.versions['torch']} then, 3.0 now",
    ]


def test_records_are_read_without_torch():
    code = "import sys, daguerre.provenance.png; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"False"
