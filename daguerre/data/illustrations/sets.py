"""The sets of drawings: where they come from, what their style is called, who made them, under which license."""

from dataclasses import dataclass

from ..packages import Package

LICENSES = {
    "MIT": "https://opensource.org/license/mit",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "PD": "https://creativecommons.org/publicdomain/mark/1.0/",
}


@dataclass(frozen=True)
class Style:
    """A set in one style: `words` say it in captions; sets of one `family` share outlines."""

    key: str
    family: str
    words: str
    package: Package
    licence: str
    """An SPDX name, or PD for the public domain."""
    author: str
    link: str
    tones: bool = False
    """Whether people are there in five tones of skin."""
    pixels: int | None = None
    """The side of the drawings where they are pixels, None where they are curves."""

    @property
    def mono(self) -> bool:
        """Whether drawings are black on nothing."""
        return self.key in ("fluent_hc", "emojione_mono")


def _npm(name: str, version: str, sha256: str) -> Package:
    return Package(name, version, sha256)


GOOGLE = ("Apache-2.0", "Google LLC", "https://github.com/googlefonts/noto-emoji")
MICROSOFT = ("MIT", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji")
EMOJI_ONE = ("CC-BY-4.0", "EmojiOne and the EmojiTwo contributors", "https://github.com/EmojiTwo/emojitwo")
TWITTER = ("CC-BY-4.0", "Twitter, Inc and other contributors", "https://github.com/jdecked/twemoji")
MOZILLA = ("Apache-2.0", "Mozilla Foundation", "https://github.com/mozilla/fxemoji")
LOBEHUB = ("MIT", "Microsoft Corporation; packaged by LobeHub", "https://github.com/lobehub/fluent-emoji")
CLIP_ART = ("PD", "Open Clip Art Library", "https://openclipart.org")

STYLES = (
    Style(
        "noto", "noto", "soft gradient cartoon",
        _npm("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
        *GOOGLE, tones=True,
    ),
    Style(
        "noto_v1", "noto_v1", "retro cartoon",
        _npm("@iconify-json/noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
        *GOOGLE, tones=True,
    ),
    Style(
        "twemoji", "twemoji", "flat vector sticker",
        _npm("@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
        *TWITTER, tones=True,
    ),
    Style(
        "fluent_3d", "fluent", "3d render",
        _npm("@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"),
        *LOBEHUB, tones=True, pixels=256,
    ),
    Style(
        "fluent_color", "fluent", "glossy gradient",
        _npm("@iconify-json/fluent-emoji", "1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b"),
        *MICROSOFT, tones=True,
    ),
    Style(
        "fluent_flat", "fluent", "flat modern",
        _npm(
            "@iconify-json/fluent-emoji-flat", "1.2.6",
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        ),
        *MICROSOFT, tones=True,
    ),
    Style(
        "fluent_hc", "fluent", "black and white icon",
        _npm(
            "@iconify-json/fluent-emoji-high-contrast", "1.2.6",
            "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
        ),
        *MICROSOFT,
    ),
    Style(
        "fxemoji", "fxemoji", "pastel flat",
        _npm("@iconify-json/fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"),
        *MOZILLA,
    ),
    Style(
        "emojione", "emojione", "bold flat",
        _npm("@iconify-json/emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
        *EMOJI_ONE, tones=True,
    ),
    Style(
        "emojione_mono", "emojione", "black silhouette",
        _npm(
            "@iconify-json/emojione-monotone", "1.2.1",
            "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e",
        ),
        *EMOJI_ONE,
    ),
    Style(
        "openclipart", "openclipart", "clip art",
        Package(
            "openclipart-svg", "1:0.18+dfsg-19",
            "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5", "debian",
        ),
        *CLIP_ART,
    ),
)  # fmt: skip


def styles_named(keys: tuple[str, ...], styles: tuple[Style, ...] = STYLES) -> tuple[Style, ...]:
    """The styles of these keys, or all; raises ValueError for a key that is none's."""
    known = {style.key: style for style in styles}
    if unknown := [key for key in keys if key not in known]:
        raise ValueError(f"{unknown[0]!r} is no style of the illustrations; there are {', '.join(known)}")
    return tuple(known[key] for key in dict.fromkeys(keys)) or styles
