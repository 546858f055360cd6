"""Forms with files: RFC 7578, read piece by piece. Large files go to the disk."""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import dataclass
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

from runner.web import MAX_BODY, HttpError

#: Bytes of a file that are kept in memory.
MAX_IN_MEMORY = 1024 * 1024
MAX_PARTS = 1000
#: Bytes of the headers of a part.
MAX_HEAD = 16 * 1024

_OPTION = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')
#: How browsers write these in names.
_ESCAPES = {"%22": '"', "%0D": "\r", "%0A": "\n"}


@dataclass
class UploadedFile:
    """A file of a form."""

    #: What the client calls it; without folders.
    name: str
    content_type: str
    #: Open to read, from its beginning; gone with the request.
    file: IO[bytes]


def parse(
    pieces: Iterator[bytes], options: str
) -> Tuple[List[Tuple[str, str]], Dict[str, UploadedFile]]:
    """Fields and files. Raises HttpError for what is no form."""
    boundary = _options(";" + options).get("boundary", "")
    if not 1 <= len(boundary) <= 70:
        raise _wrong("it names no boundary")
    reader = _Reader(pieces, b"\r\n--" + boundary.encode("latin-1", "replace"))
    with contextlib.ExitStack() as opened:
        found = _parts(reader, opened)
        opened.pop_all()  # all went well: they stay open
        return found


def _parts(
    reader: _Reader, opened: contextlib.ExitStack
) -> Tuple[List[Tuple[str, str]], Dict[str, UploadedFile]]:
    fields: List[Tuple[str, str]] = []
    files: Dict[str, UploadedFile] = {}
    room = MAX_BODY
    reader.skip_to_part()
    for _ in range(MAX_PARTS):
        head = reader.head()
        if head is None:
            return fields, files
        disposition = _options(head.get("content-disposition", ""))
        name = disposition.get("name", "")
        if "filename" in disposition:
            file = tempfile.SpooledTemporaryFile(MAX_IN_MEMORY)
            opened.callback(file.close)
            for piece in reader.content():
                file.write(piece)
            is_empty = file.tell() == 0
            file.seek(0)
            plain = re.split(r"[/\\]", disposition["filename"])[-1]
            if (plain or not is_empty) and name not in files:
                kind = head.get("content-type", "application/octet-stream")
                files[name] = UploadedFile(plain, kind, file)
            else:
                file.close()
            continue
        value = bytearray()
        for piece in reader.content():
            value += piece
            room -= len(piece)
            if room < 0:
                raise HttpError(413, f"The fields are larger than the limit of {MAX_BODY} bytes.")
        fields.append((name, value.decode("utf-8", "replace")))
    raise _wrong(f"it has more than {MAX_PARTS} parts")


class _Reader:
    def __init__(self, pieces: Iterator[bytes], delimiter: bytes) -> None:
        self.pieces = pieces
        self.delimiter = delimiter
        #: What was read and not yet taken. The first delimiter may stand at the very beginning.
        self.held = bytearray(b"\r\n")

    def _more(self) -> None:
        piece = next(self.pieces, None)
        if piece is None:
            raise _wrong("it ends in the middle")
        self.held += piece

    def skip_to_part(self) -> None:
        for _ in self.content():
            pass

    def content(self) -> Iterator[bytes]:
        """Everything up to the next delimiter, which is taken too."""
        while True:
            at = self.held.find(self.delimiter)
            # The last bytes may be the beginning of a delimiter.
            end = at if at >= 0 else max(0, len(self.held) - len(self.delimiter) + 1)
            if end:
                yield bytes(self.held[:end])
            del self.held[:end]
            if at >= 0:
                del self.held[: len(self.delimiter)]
                return
            self._more()

    def head(self) -> Optional[Dict[str, str]]:
        """The headers of the next part; `None` after the last one."""
        while len(self.held) < 2:
            self._more()
        if self.held.startswith(b"--"):
            for _ in self.pieces:  # what follows means nothing
                pass
            return None
        while b"\r\n\r\n" not in self.held:
            if len(self.held) > MAX_HEAD:
                raise _wrong(f"the headers of a part are longer than {MAX_HEAD} bytes")
            self._more()
        text, _, rest = bytes(self.held).partition(b"\r\n\r\n")
        self.held = bytearray(rest)
        lines = text.decode("utf-8", "replace").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _options(text: str) -> Dict[str, str]:
    found: Dict[str, Any] = {}
    for name, quoted, plain in _OPTION.findall(text):
        value = re.sub(r"\\([\"\\])", r"\1", quoted) or plain
        for written, meant in _ESCAPES.items():
            value = value.replace(written, meant)
        found[name.lower()] = value
    return found


def _wrong(why: str) -> HttpError:
    return HttpError(400, f"The form cannot be read: {why}.")
