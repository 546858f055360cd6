"""Reads and writes entities: records with an `ID` and any attributes.

Three formats: CSV (`text/csv`, all values are texts), JSON (`application/json`,
an array of objects) and JSON lines (`application/X-lines+json`, an object per
line). Both directions stream: no more than one entity and a piece of the file
is held in memory.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
import os
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

from runner.input import Input
from runner.task import Task

Entity = Dict[str, Any]
Source = Union[Input, str, "os.PathLike[str]"]
Target = Union[Task, str, "os.PathLike[str]"]

CSV, JSON, LINES = "text/csv", "application/json", "application/X-lines+json"
_NAMES = {
    CSV: CSV,
    "application/csv": CSV,
    JSON: JSON,
    LINES.lower(): LINES,
    "application/jsonl": LINES,
    "application/jsonlines": LINES,
    "application/json-lines": LINES,
    "application/ndjson": LINES,
    "application/x-ndjson": LINES,
}
_EXTENSIONS = {".csv": CSV, ".json": JSON, ".jsonl": LINES, ".ndjson": LINES}
#: Media types that say nothing about the format, so that the name has to.
_VAGUE = ("", "application/octet-stream", "text/plain", "*", "*/*")

#: Characters read at a time.
CHUNK = 1 << 16
#: The longest entity, in characters: what one line or object may take of the memory.
MAX_ENTITY = 64 << 20


class EntityError(ValueError):
    """A file does not hold entities. The message says where, and what was expected."""

    def __init__(self, source: str, where: str, problem: str) -> None:
        super().__init__(": ".join(part for part in (source, where, problem) if part))


def entity_format(content_type: Optional[str], name: str = "") -> str:
    """`CSV`, `JSON` or `LINES` for a media type, or for a file's name where that says nothing."""
    plain = (content_type or "").split(";")[0].strip().lower()
    found = _NAMES.get(plain)
    if found is None and plain in _VAGUE:
        found = _EXTENSIONS.get(os.path.splitext(name)[1].lower())
    if found is None:
        what = f"media type {content_type!r}" if plain else "a file without media type"
        raise EntityError(
            name,
            "",
            f"no entities can be read from {what}; supported are {CSV}, {JSON} and {LINES}",
        )
    return found


def extension(format: str) -> str:
    """How the name of a file in this format ends."""
    return next(ending for ending, known in _EXTENSIONS.items() if known == format)


# --- reading ---------------------------------------------------------------


def read_entities(source: Source, content_type: Optional[str] = None) -> Iterator[Entity]:
    """The entities of a file, one by one. Raises EntityError.

    The format is told by `content_type`, else by the media type of the input,
    else by the name. A file said to be JSON may also be a single object, or
    JSON lines.
    """
    if isinstance(source, Input):
        path, name = source.path, source.name
        content_type = content_type or source.content_type
    else:
        path = Path(source)
        name = path.name
    read = {CSV: _read_csv, JSON: _read_json, LINES: _read_lines}[entity_format(content_type, name)]
    return _read(read, path, name, _encoding(content_type, name))


def _encoding(content_type: Optional[str], name: str) -> str:
    for parameter in (content_type or "").split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "charset":
            try:
                found = codecs.lookup(value.strip().strip("\"'")).name
            except LookupError:
                raise EntityError(name, "", f"unknown charset in {content_type!r}") from None
            return "utf-8-sig" if found in ("utf-8", "ascii") else found
    return "utf-8-sig"


def _read(read: Any, path: Path, name: str, encoding: str) -> Iterator[Entity]:
    with open(path, encoding=encoding, newline="") as file:
        try:
            yield from read(file, name)
        except UnicodeDecodeError as error:
            where = _undecodable(path, encoding)
            raise EntityError(name, where, f"not {error.encoding}: {error.reason}") from None


def _undecodable(path: Path, encoding: str) -> str:
    """Where the first byte lies that is no text, found by reading once more."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with open(path, "rb") as file:
        while True:
            piece = file.readline(CHUNK)
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                byte = error.object[error.start] if error.start < len(error.object) else 0
                return f"line {line}, byte 0x{byte:02x}"
            if not piece:
                return ""
            line += piece.endswith(b"\n")


def _bounded_lines(file: IO[str], name: str) -> Iterator[str]:
    for number in itertools.count(1):
        line = file.readline(MAX_ENTITY + 1)
        if len(line) > MAX_ENTITY:
            raise EntityError(name, f"line {number}", f"longer than {MAX_ENTITY} characters")
        if not line:
            return
        yield line


def _read_csv(file: IO[str], name: str) -> Iterator[Entity]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ENTITY))
    rows = csv.reader(_bounded_lines(file, name), strict=True)
    try:
        header = next((row for row in rows if row), None)
        if header is None:
            return
        for number, column in enumerate(header, 1):
            if not column.strip():
                raise EntityError(
                    name, f"line {rows.line_num}", f"column {number} of the header has no name"
                )
            if column in header[: number - 1]:
                raise EntityError(
                    name, f"line {rows.line_num}", f"two columns are called {column!r}"
                )
        for row in rows:
            if row and len(row) != len(header):
                columns = ", ".join(header)
                problem = f"{len(row)} values, but the header has {len(header)} columns ({columns})"
                raise EntityError(name, f"line {rows.line_num}", problem)
            if row:
                yield dict(zip(header, row))
    except csv.Error as error:
        raise EntityError(name, f"line {rows.line_num}", f"not CSV: {error}") from None


def _read_lines(file: IO[str], name: str) -> Iterator[Entity]:
    for number, line in enumerate(_bounded_lines(file, name), 1):
        if not line.strip():
            continue
        try:
            entity = json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            where = f"line {number}, column {error.colno}"
            raise EntityError(name, where, f"not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise EntityError(name, f"line {number}", f"cannot be read: {error}") from None
        if not isinstance(entity, dict):
            raise EntityError(name, f"line {number}", f"expected an object, found {_kind(entity)}")
        yield entity


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", str: "a text", list: "an array", type(None): "null"}
    return kinds.get(type(value), "a number")


class _Text:
    """A sliding window over a text file that knows where it is."""

    def __init__(self, file: IO[str], name: str) -> None:
        self.file = file
        self.name = name
        self.text = ""
        #: The next character to look at, in `text`.
        self.at = 0
        self.line = 1
        #: Characters of the current line that lie before `text`.
        self.before = 0
        self.ended = False

    def more(self) -> bool:
        """Reads on, at least as much as is held; drops what was looked at. False at the end."""
        done = self.text[: self.at]
        lines = done.count("\n")
        self.line += lines
        self.before = len(done) - done.rindex("\n") - 1 if lines else self.before + len(done)
        rest = self.text[self.at :]
        chunk = "" if self.ended else self.file.read(max(CHUNK, len(rest)))
        self.ended = not chunk
        self.text, self.at = rest + chunk, 0
        return not self.ended

    def error(self, problem: str, offset: Optional[int] = None) -> EntityError:
        done = self.text[: self.at if offset is None else offset]
        lines = done.count("\n")
        column = len(done) - done.rindex("\n") if lines else self.before + len(done) + 1
        return EntityError(self.name, f"line {self.line + lines}, column {column}", problem)

    def peek(self) -> str:
        """The next character that is no space, or "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def object(self, what: str) -> Entity:
        """The object that begins here."""
        found = self.peek()
        if found != "{":
            raise self.error(f"expected {what}, found {_shown(found)}")
        while True:
            try:
                entity, self.at = _DECODER.raw_decode(self.text, self.at)
                return entity  # type: ignore[no-any-return]
            except json.JSONDecodeError as error:
                # It may only be cut off. Surely not, if the error lies well before the cut;
                # an open text is reported where it begins.
                cut = error.pos + 16 > len(self.text) or error.msg.startswith("Unterminated string")
                if not cut or self.ended:
                    raise self.error(f"not JSON: {error.msg}", error.pos) from None
            except (ValueError, RecursionError) as error:
                raise self.error(f"cannot be read: {error}") from None
            if len(self.text) - self.at > MAX_ENTITY:
                raise self.error(f"an entity longer than {MAX_ENTITY} characters")
            self.more()


_DECODER = json.JSONDecoder()


def _shown(character: str) -> str:
    return repr(character) if character else "the end of the file"


def _read_json(file: IO[str], name: str) -> Iterator[Entity]:
    text = _Text(file, name)
    first = text.peek()
    if first != "[":
        yield text.object("an array of objects")
        while text.peek():  # JSON lines by another name
            yield text.object("an object")
        return
    text.at += 1
    if text.peek() == "]":
        text.at += 1
    else:
        while True:
            yield text.object("an object")
            after = text.peek()
            if after not in (",", "]"):
                raise text.error(f"expected ',' or ']', found {_shown(after)}")
            text.at += 1
            if after == "]":
                break
    if text.peek():
        raise text.error(
            f"expected the end of the file after the array, found {_shown(text.peek())}"
        )


# --- writing ---------------------------------------------------------------


def write_entities(
    target: Target,
    entities: Iterable[Mapping[str, Any]],
    content_type: Optional[str] = None,
    *,
    name: Optional[str] = None,
    data_type: str = "entity/list",
    attributes: Optional[Sequence[str]] = None,
) -> int:
    """Writes entities as an output of a task, or to a path. Says how many. Raises EntityError.

    The format is told by `content_type`, else by the name; a task's output is
    called `entities.csv` (or as the format wants) unless `name` is given.
    `attributes` are the columns of a CSV file, else those of its first entity.
    """
    if isinstance(target, Task):
        format = entity_format(content_type, name or "")
        name = name or "entities" + extension(format)
        with target.open_output(name, data_type, content_type or format) as file:
            return _write(file, entities, format, name, attributes)
    path = Path(target)
    format = entity_format(content_type, path.name)
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            return _write(file, entities, format, path.name, attributes)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()  # whole or absent
        raise


def _write(
    file: IO[str],
    entities: Iterable[Mapping[str, Any]],
    format: str,
    name: str,
    attributes: Optional[Sequence[str]],
) -> int:
    if format == CSV:
        return _write_csv(file, entities, name, attributes)
    count = 0
    if format == JSON:
        file.write("[")
    for count, entity in enumerate(entities, 1):
        if format == JSON:
            file.write(",\n" if count > 1 else "\n")
        file.write(_json(dict(entity), name, count))
        if format == LINES:
            file.write("\n")
    if format == JSON:
        file.write("\n]\n" if count else "]\n")
    return count


def _json(value: Any, name: str, number: int) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:  # half of a surrogate pair: fine as an escape
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise EntityError(name, f"entity {number}", f"cannot be written as JSON: {error}") from None


def _write_csv(
    file: IO[str],
    entities: Iterable[Mapping[str, Any]],
    name: str,
    attributes: Optional[Sequence[str]],
) -> int:
    plain = csv.writer(file, lineterminator="\n")
    # A lone carriage return must be quoted too, which `plain` does not see to.
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: List[str]) -> None:
        (quoted if any("\r" in cell for cell in row) else plain).writerow(row)

    columns: Optional[List[str]] = None if attributes is None else list(attributes)
    if columns is not None:
        write(columns)
    count = 0
    for count, entity in enumerate(entities, 1):
        if columns is None:
            columns = list(entity)
            write(columns)
        stray = [key for key in entity if key not in columns]
        if stray:
            problem = f"the attribute {stray[0]!r} is not among the columns ({', '.join(columns)})"
            raise EntityError(name, f"entity {count}", problem)
        try:
            write([_cell(entity.get(column), name, count) for column in columns])
        except UnicodeEncodeError as error:
            raise EntityError(
                name, f"entity {count}", f"cannot be written as UTF-8: {error.reason}"
            ) from None
    return count


def _cell(value: Any, name: str, number: int) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return _json(value, name, number)
