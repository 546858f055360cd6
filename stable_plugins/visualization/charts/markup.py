"""Texts from strangers, as they may stand in XML and HTML."""

import re
import unicodedata
from html import escape as _escape

#: What XML 1.0 does not allow, not even escaped, and the lone halves of surrogate pairs.
_ILLEGAL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Marks that turn the direction of what follows them: a text could dress up its neighbours.
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def escape(text):
    """Text as content or attribute of XML and HTML. What cannot be shown becomes U+FFFD."""
    return _escape(_TURNING.sub("\ufffd", _ILLEGAL.sub("\ufffd", str(text))))


def cut(text, length):
    """At most `length` characters of a text; an ellipsis says that there were more."""
    return text if len(text) <= length else text[: length - 1] + "…"


def line(text, length):
    """A text on one line, cut."""
    # Before, too: the text may be of millions of characters.
    return cut(" ".join(cut(text, 4 * length).split()), length)


def width(text, size):
    """About how wide a text is in a sans-serif font of this size: rather too wide."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return size * (0.58 * len(text) + 0.44 * wide)


def wrap(text, room, size):
    """The lines of a text, broken between words to fit into `room`."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
