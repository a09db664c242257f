"""Records and requests for the tests of this room."""

from typing import Any

from hypothesis import strategies as st

from daguerre.provenance.infotext import FIELDS
from daguerre.provenance.record import Record
from daguerre.request import LIMITS, TextToImage, read_guide

# The limited fields that an infotext tells of.
SPOKEN_OF = sorted(LIMITS.keys() & {name for name, _ in FIELDS.values()})
# Lone low surrogates are how Python hands over bytes of a command line that are not UTF-8.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
TRAPS = [
    "",
    "a cat\nSteps: 20, Seed: 1, Sampler: Euler a",
    "Negative prompt: not this one\nSteps: 1, Seed: 2, Size: 64x64, Model: x",
    'say "cheese", {"seed": 1}: \\" \\u0000',
    "nul \0 bell \a tab \t return \r\n line \u2028",
    "\u05d7\u05ea\u05d5\u05dc \u202e gnp.exe",
    "\U0001f431" * 20_000,
    "invalid \udcff bytes",
    "</script><b>\xe9\xfc",
]


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "request": TextToImage(prompt="a red apple", negative_prompt="blurry", seed=-1, count=4),
        "seed": 123,
        "index": 2,
        "sampler": "DPM++ 2M",
        "schedule": "karras",
        "family": "sd1",
        "prediction": "epsilon",
        "model": "my model",
        "model_sha256": "0123456789abcdef" * 4,
        "device": "cpu",
        "processor": "x86_64 AVX2",
        "dtype": "float32",
        "threads": 2,
        "pixel_sha256": "f" * 64,
    }
    return Record(**{**values, **changes})


def number(name: str) -> st.SearchStrategy[Any]:
    low, high = LIMITS[name]
    return st.floats(low, high) if name in ("cfg_scale", "guidance_rescale") else st.integers(int(low), int(high))


GUIDES = [
    ("pag:scale=4.25,adaptive=0.003,layers=mid_attn+decoder.1", "apg:momentum=-0.25"),
    (
        "skip:below=2.5,every=True,early=0.1",
        "threshold:mimic_mode=cosine down,percentile=0.999",
        "tcfg",
        "zero:steps=2",
    ),
    ("auto:model=a folder/v1.0.safetensors", "sag", "seg:blur=1e-05", "perp:scale=2", "freeu:version=1"),
    (),
]


def requests(prompts: st.SearchStrategy[str]) -> st.SearchStrategy[TextToImage]:
    side = st.integers(8, 512).map(lambda n: 8 * n)
    return st.builds(
        TextToImage,
        prompt=prompts,
        negative_prompt=prompts,
        sampler=st.sampled_from(["Euler a", "DPM++ 2M"]),
        schedule=st.sampled_from(["automatic", "karras", "sgm_uniform", "ddim_uniform"]),
        guidance_interval=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: tuple(sorted(pair))),
        guides=st.sampled_from(GUIDES).map(lambda texts: tuple(map(read_guide, texts))),
        width=side,
        height=side,
        emphasis=st.sampled_from(["original", "no norm", "ignore", "none"]),
        **{name: number(name) for name in SPOKEN_OF if name not in ("width", "height")},
    )
