"""Several ways to say what a picture shows."""

import torch

VOWELS = "aeiou"


def phrases(row: dict[str, object]) -> list[str]:
    """The captions of a picture: its own, the name alone, the name after the style, and its keywords."""
    name, style = str(row["label"]), str(row["style_words"])
    own = str(row["caption"])
    bare = own.removesuffix(f", {style}")
    tags = [str(t) for t in row.get("tags") or [] if str(t).lower() not in name.lower()]  # type: ignore[attr-defined]
    article = "an" if style[0] in VOWELS else "a"
    keywords = [f"{bare}, {', '.join(tags[:2])}, {style}"] if tags else []
    return [own, own, f"{article} {style} of {bare}", bare, *keywords]


def pick(row: dict[str, object], rng: torch.Generator) -> str:
    options = phrases(row)
    return options[int(torch.randint(len(options), (1,), generator=rng))]
