"""Text from outside made safe to show: names in models, cameras and errors are not ours."""

from __future__ import annotations


def legible(text: str) -> str:
    r"""Return a text with everything that is not seen written as an escape: `\x1b`, `\udce9`.

    A terminal obeys control characters, a page breaks on lone surrogates (file names that are
    not UTF-8), and either shows bidirectional overrides as if the text were another. Spaces,
    tabs and line ends stay.
    """
    if text.isprintable():
        return text
    return "".join(
        one
        if one.isprintable() or one in "\n\t" or (one.isspace() and ord(one) > 0x9F)
        else one.encode("unicode_escape").decode("ascii")
        for one in text
    )
