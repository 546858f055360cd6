"""Own routes of a plugin: pages, data and files below its URL.

@shout.route("/page/{name}")
def page(request, name):
    return f"<h1>{html.escape(name)}</h1>"
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union

from runner.signature import DefinitionError

#: The largest body that is read as a whole, in bytes. `Request.stream` has no limit of its own.
MAX_BODY = 16 * 1024 * 1024
#: Bytes that are read and sent at a time.
PIECE = 64 * 1024
#: First segments that are routes of the runner.
_TAKEN = ("", "ui", "process")
_PARAMETER = re.compile(r"\{([A-Za-z_]\w*)(:path)?\}")

Handler = Callable[..., Any]


class HttpError(Exception):
    """Raised by a handler: the answer is this status, and the message as JSON."""

    def __init__(
        self, status: int, message: str = "", headers: Optional[Mapping[str, str]] = None
    ) -> None:
        super().__init__(f"{status} {message}".strip())
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class Values(Dict[str, str]):
    """Names and their first values. `all` has the others too."""

    def __init__(self, pairs: Iterable[Tuple[str, str]] = ()) -> None:
        self.pairs = list(pairs)
        super().__init__(reversed(self.pairs))

    def all(self, name: str) -> List[str]:
        return [value for key, value in self.pairs if key == name]


class Headers(Values):
    """Headers by name, however it is written."""

    def __init__(self, pairs: Iterable[Tuple[str, str]] = ()) -> None:
        super().__init__((name.lower(), value) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def all(self, name: str) -> List[str]:
        return super().all(name.lower())


class Request:
    """What a handler is called with."""

    def __init__(
        self,
        method: str,
        target: str,
        headers: Iterable[Tuple[str, str]],
        read: Callable[[int], bytes],
    ) -> None:
        from urllib.parse import parse_qsl, unquote, urlsplit

        split = urlsplit(target)
        #: In capitals.
        self.method = method
        #: Below the plugin, decoded; begins with a slash.
        self.path = unquote(split.path)
        self.query = Values(parse_qsl(split.query, keep_blank_values=True))
        self.headers = Headers(headers)
        #: The URL of the plugin as the client knows it; ends in a slash.
        self.base = _base(self.headers)
        #: The base URL of the runner, as `task.base_url`; no slash at the end.
        self.base_url = self.base.rpartition("/plugins/")[0]
        #: The identifier of the plugin.
        self.plugin = unquote(self.headers.get("x-runner-plugin", ""))
        self._segments = [unquote(segment) for segment in split.path.split("/")[1:]]
        self._read = read
        self._form: Optional[Tuple[Values, Dict[str, Any]]] = None

    def url(self, href: str = "") -> str:
        """A path below the plugin as a URL for the client."""
        from urllib.parse import urljoin

        return urljoin(self.base, href)

    def stream(self, size: int = PIECE) -> Iterator[bytes]:
        """The body in pieces of at most `size` bytes, as they arrive."""
        while True:
            piece = self._read(size)
            if not piece:
                return
            yield piece

    def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body. Raises HttpError 413 if it is larger than `limit`."""
        body = bytearray()
        for piece in self.stream():
            body += piece
            if len(body) > limit:
                raise HttpError(413, f"The body is larger than the limit of {limit} bytes.")
        return bytes(body)

    def json(self, limit: int = MAX_BODY) -> Any:
        """The body as JSON. Raises HttpError 400 if it is none."""
        try:
            return json.loads(self.body(limit))
        except (ValueError, RecursionError) as error:
            raise HttpError(400, f"The body is no JSON: {error}") from None

    def form(self) -> Values:
        """The fields of a form that was sent, urlencoded or multipart."""
        return self._forms()[0]

    @property
    def files(self) -> Dict[str, Any]:
        """The files of a form by field; each has `name`, `content_type` and an open `file`."""
        return self._forms()[1]

    def close(self) -> None:
        """Forgets the files of a form. Done when the request has been answered."""
        for file in self._form[1].values() if self._form else ():
            file.file.close()

    def _forms(self) -> Tuple[Values, Dict[str, Any]]:
        if self._form is None:
            kind, _, options = self.headers.get("content-type", "").partition(";")
            kind = kind.strip().lower()
            if kind == "application/x-www-form-urlencoded":
                self._form = Values(_urlencoded(self.body())), {}
            elif kind == "multipart/form-data":
                from runner.multipart import parse

                fields, files = parse(self.stream(), options)
                self._form = Values(fields), files
            else:
                raise HttpError(415, f"Expected a form, not {kind or 'a body without type'}.")
        return self._form


def _urlencoded(body: bytes) -> List[Tuple[str, str]]:
    from urllib.parse import parse_qsl

    try:
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise HttpError(400, f"The form cannot be read: {error}") from None


def _base(headers: Headers) -> str:
    scheme = headers.get("x-forwarded-proto", "http")
    host = headers.get("x-forwarded-host", "localhost")
    return f"{scheme}://{host}{headers.get('x-forwarded-prefix', '')}/"


class Response:
    """An answer. `body` is text, bytes, an open file, or anything that yields text or bytes.

    Pieces are sent as they are yielded, so a generator may answer for as long as it likes.
    """

    def __init__(
        self,
        body: Any = b"",
        status: int = 200,
        headers: Optional[Mapping[str, str]] = None,
        content_type: Optional[str] = None,
    ) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self.body = body.encode("utf-8") if isinstance(body, str) else body
        if content_type is None and isinstance(body, str):
            content_type = "text/html; charset=utf-8"
        given = {name.lower() for name in self.headers}
        if content_type is not None and "content-type" not in given:
            self.headers["Content-Type"] = content_type

    @classmethod
    def of(cls, answer: Any) -> Response:
        """What a handler returned, as a response. Raises TypeError for what is none."""
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, str):
            return cls(answer)
        if isinstance(answer, (bytes, bytearray, memoryview)):
            return cls(bytes(answer), content_type="application/octet-stream")
        if isinstance(answer, (dict, list)):
            return cls(json.dumps(answer).encode("utf-8"), content_type="application/json")
        if answer is None:
            return cls(status=204)
        kind = type(answer).__name__
        raise TypeError(
            f"a route returns text (HTML), bytes, a dict or list (JSON), a Response or nothing; "
            f"this returned {kind}"
        )

    @classmethod
    def error(
        cls, status: int, message: str = "", headers: Optional[Mapping[str, str]] = None
    ) -> Response:
        """An error in the form that all clients of the runner understand."""
        from http import HTTPStatus

        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Error"
        said = {"message": message} if message else {}
        body = json.dumps({"code": status, **said, "status": phrase}).encode("utf-8")
        return cls(body, status, headers, "application/json")


class Route:
    """A pattern of paths, and who answers."""

    def __init__(self, pattern: str, methods: Iterable[str], handler: Handler, where: str) -> None:
        if isinstance(methods, str):
            raise DefinitionError(f"{where}: methods must be a list of texts, not {methods!r}")
        self.pattern = pattern
        self.methods = [method.upper() for method in methods]
        self.handler = handler
        self.segments = pattern.split("/")[1:]
        self.names: List[Optional[Tuple[str, bool]]] = []
        if not pattern.startswith("/") or pattern.startswith("//"):
            raise DefinitionError(f'{where}: a route is one like "/page/{{name}}", not {pattern!r}')
        if self.segments[0] in _TAKEN and self.segments[1:] in ([], [""]):
            raise DefinitionError(f"{where}: {pattern} is a route of the runner")
        for at, segment in enumerate(self.segments):
            found = _PARAMETER.fullmatch(segment)
            if found is None and ("{" in segment or "}" in segment):
                raise DefinitionError(f"{where}: a parameter is a whole segment, not {segment!r}")
            if found is not None and found[2] and at + 1 < len(self.segments):
                raise DefinitionError(f"{where}: nothing follows {segment}, which takes the rest")
            self.names.append(found and (found[1], bool(found[2])))

    @property
    def order(self) -> List[int]:
        """Plain segments come before parameters, these before rests."""
        return [0 if name is None else 1 + name[1] for name in self.names]

    def match(self, segments: List[str]) -> Optional[Dict[str, str]]:
        values: Dict[str, str] = {}
        for at, name in enumerate(self.names):
            if at >= len(segments):
                return None
            if name is None:
                if segments[at] != self.segments[at]:
                    return None
            elif name[1]:
                values[name[0]] = "/".join(segments[at:])
                return values
            elif not segments[at]:
                return None
            else:
                values[name[0]] = segments[at]
        return values if len(segments) == len(self.names) else None


class Routes:
    """The own routes of a plugin."""

    def __init__(self) -> None:
        self.routes: List[Route] = []

    def __bool__(self) -> bool:
        return bool(self.routes)

    def add(self, route: Route) -> None:
        self.routes.append(route)
        self.routes.sort(key=lambda route: route.order)

    def answer(self, request: Request) -> Response:
        """Asks the handler. Raises HttpError, or whatever that raises."""
        allowed: List[str] = []
        for route in self.routes:
            values = route.match(request._segments)
            if values is None:
                continue
            methods = [*route.methods, "HEAD"] if "GET" in route.methods else route.methods
            if request.method in methods:
                return Response.of(route.handler(request, **values))
            allowed += methods
        if not allowed:
            raise HttpError(404)
        allow = {"Allow": ", ".join(dict.fromkeys([*allowed, "OPTIONS"]))}
        if request.method == "OPTIONS":
            return Response(status=204, headers=allow)
        raise HttpError(405, headers=allow)


class Folder:
    """Answers with the files of a folder, and with nothing outside of it."""

    def __init__(self, folder: Union[str, "os.PathLike[str]"]) -> None:
        self.folder = os.path.realpath(folder)

    def __call__(self, request: Request, path: str) -> Response:
        if path == "" or path.endswith("/"):
            path += "index.html"
        segments = path.split("/")
        # What begins with a dot is hidden, or leads upwards.
        if any(not one or one.startswith(".") or "\0" in one or "\\" in one for one in segments):
            raise HttpError(404)
        found = os.path.realpath(os.path.join(self.folder, *segments))
        if os.path.commonpath([self.folder, found]) != self.folder or not os.path.isfile(found):
            raise HttpError(404)
        try:
            file = open(found, "rb")
        except OSError:
            raise HttpError(404) from None
        stat = os.fstat(file.fileno())
        etag = f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            file.close()
            return Response(status=304, headers=headers)
        headers["Content-Length"] = str(stat.st_size)
        return Response(file, headers=headers, content_type=_media_type(found))


def _media_type(path: str) -> str:
    import mimetypes

    known = {".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}
    kind = known.get(os.path.splitext(path)[1].lower()) or mimetypes.guess_type(path)[0]
    if kind is None:
        return "application/octet-stream"
    is_text = kind.startswith("text/") or kind == "image/svg+xml"
    return f"{kind}; charset=utf-8" if is_text else kind


def static_folder(folder: Union[str, "os.PathLike[str]"], beside: str, where: str) -> Folder:
    """The folder, looked for beside the file that names it, then in the plugin folder.

    The runner loads a copy of a module. A single file is copied alone.
    """
    places = [os.path.dirname(os.path.abspath(beside)), os.environ.get("RUNNER_MODULE_FOLDER", "")]
    for place in filter(None, places):
        found = os.path.join(place, folder)
        if os.path.isdir(found):
            return Folder(found)
    raise DefinitionError(f"{where}: there is no folder {os.fspath(folder)!r} beside {beside}")
