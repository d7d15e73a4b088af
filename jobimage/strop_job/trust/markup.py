"""Names and words of other people in Markdown: shown as they are, never as markup, links or HTML."""

import re

_HARMLESS = re.compile(r"[\w ./+=%,;()-]")
_CODE = re.compile(r"[\w./:+=,@-]+")


def plain(text: object) -> str:
    """On one line, with everything that could mean something to Markdown or HTML as a character reference."""
    line = " ".join(str(text).split())
    return "".join(c if _HARMLESS.fullmatch(c) and c != "_" else f"&#{ord(c)};" for c in line)


def code(text: object) -> str:
    """In a code span where that is safe, else as `plain`."""
    found = str(text)
    return f"`{found}`" if _CODE.fullmatch(found) else plain(found)
