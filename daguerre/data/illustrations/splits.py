"""Which pictures a model must not see: whole concepts, and concepts in one family of drawings.

Families share outlines, so that a style alone would be no honest hold-out: the 3d, color, flat and black drawings of
Fluent Emoji are one family. The lists below were drawn once by chance and stay as they are, for figures to compare.
"""

import hashlib
import re
from collections.abc import Collection, Iterable

TRAIN, VAL, PAIR, CONCEPT = "train", "val", "pair_holdout", "concept_holdout"
ORDER = (TRAIN, VAL, PAIR, CONCEPT)  # a drawing of several concepts goes where the strictest of them goes
VAL_SHARE = 0.01
CONCEPT_CODES = """
    1F327 1F333 1F35C 1F363 1F372 1F38D 1F38E 1F390 1F392 1F3B0 1F3B4 1F3D3 1F3EA 1F3EC 1F413 1F425 1F42D 1F45E
    1F48E 1F4B5 1F4BF 1F4C0 1F4E2 1F4FA 1F52C 1F52D 1F54A 1F58B 1F5D2 1F685 1F690 1F69B 1F6A5 1F95C 1F983 1F98F
    26C4 26D1 26F4 2744
"""
PAIR_CODES = {
    "noto": """
            1F313 1F316 1F31C 1F337 1F344 1F347 1F35B 1F375 1F397 1F3B1 1F3B3 1F408 1F430 1F436 1F460
            1F489 1F4B3 1F4B7 1F4D3 1F4EA 1F4FC 1F525 1F5FD 1F683 1F689 1F697 1F6AC 1F6B2 1F6CB 1F987 231A
            26A1 26C8
        """,
    "noto_v1": """
            1F0CF 1F320 1F349 1F351 1F377 1F37A 1F382 1F39B 1F3A4 1F3A9 1F3B7 1F3D1 1F3D5 1F3D7 1F402
            1F420 1F424 1F428 1F42E 1F4D6 1F4ED 1F4EE 1F4EF 1F515 1F579 1F6A6 1F6E4 1F940 1F942 1F981
            1F982 2603 2666 2694
        """,
    "twemoji": """
            1F307 1F30E 1F31F 1F32D 1F33A 1F33C 1F340 1F352 1F38A 1F399 1F3A3 1F3E5 1F434 1F43E 1F452
            1F4BD 1F4BE 1F4C8 1F4CD 1F4E5 1F50C 1F5E1 1F5FC 1F693 1F6BF 1F6E9 1F6F6 1F950 1F98A 1F98E 26C5
            26EA 270F 2728
        """,
    "fluent": """
            1F314 1F32B 1F32C 1F33D 1F357 1F359 1F364 1F37B 1F393 1F396 1F3A2 1F3B8 1F3C6 1F3D0 1F3D4
            1F3D6 1F3E0 1F3E3 1F3F8 1F400 1F414 1F48A 1F4CC 1F4D8 1F56F 1F58A 1F698 1F6BD 1F991 2618 2660
            2665 26F0
        """,
    "fxemoji": """
            1F303 1F308 1F30B 1F325 1F33B 1F341 1F345 1F34B 1F358 1F36F 1F389 1F3C5 1F3EF 1F401 1F40D
            1F411 1F458 1F484 1F492 1F4A1 1F4C1 1F4D7 1F4E1 1F526 1F528 1F587 1F5BC 1F69A 1F69E 1F6A2 2668
            26FA 2709
        """,
    "emojione": """
            1F309 1F31E 1F330 1F334 1F346 1F34A 1F369 1F36B 1F37F 1F3AD 1F3F9 1F417 1F421 1F427 1F433
            1F43C 1F43D 1F4B0 1F4CA 1F4D4 1F516 1F52E 1F5B1 1F699 1F69C 1F6C1 1F6EB 1F947 1F952 1F955
            1F984 2696 26F8
        """,
}
CONCEPTS = frozenset(CONCEPT_CODES.split())
PAIRS = {family: frozenset(codes.split()) for family, codes in PAIR_CODES.items()}


def split_of(name: str, family: str) -> str:
    """The split of a concept (its code) or of a nameless thing (its label) as a family draws it."""
    if name in CONCEPTS:
        return CONCEPT
    if name in PAIRS.get(family, ()):
        return PAIR
    digest = hashlib.sha1(f"val|{name}".encode(), usedforsecurity=False).digest()
    return VAL if int.from_bytes(digest[:8]) < VAL_SHARE * 2**64 else TRAIN


def strictest(splits: Iterable[str]) -> str:
    """The one of several splits that keeps most from training."""
    return max(splits, key=ORDER.index)


def says_held_out(texts: Iterable[str], labels: Collection[str]) -> bool:
    """Whether a label or keyword holds the whole name of a held-out concept, also in the plural."""
    names = "|".join(re.escape(label.lower()) for label in labels)
    return any(re.search(rf"\b(?:{names})(?:s|es)?\b", text.lower()) for text in texts) if names else False
