"""HTML from Python calls; all text is escaped, as it may come from captions and file names of strangers."""

from html import escape

VOID = ("img", "source")  # elements without an end


class Markup(str):
    """Text that is HTML already; only `element` and `joined` make it."""

    __slots__ = ()


def element(name: str, *inside: str, **attributes: str) -> Markup:
    """An element: `element("a", "back", href="..")`; plain strings inside and all attributes are escaped.

    An attribute that is a Python keyword has an underscore at its end: class_.
    """
    told = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(*inside)}</{name}>")


def joined(*parts: str) -> Markup:
    """Parts one after another, escaped where they are not markup yet."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))
