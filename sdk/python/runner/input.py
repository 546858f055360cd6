"""A file that the runner hands to a plugin."""

from __future__ import annotations

from runner.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO, Any, Mapping, Optional


@record(frozen=True)
class Input:
    """An input file. It has been downloaded already: `path` is local and readable."""

    path: Path
    #: The name that the file has where it comes from.
    name: str
    #: Its media type, such as `text/csv`; `None` if nobody said.
    content_type: Optional[str] = None
    #: What it means, such as `entity/list`; `None` if nobody said.
    data_type: Optional[str] = None
    #: Where it comes from; `None` for an upload, and for a `data:` URL, which is its own content.
    url: Optional[str] = None
    #: In bytes.
    size: int = 0

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Input:
        from pathlib import Path

        path = Path(value["path"])
        size = value.get("size")
        return cls(
            path=path,
            name=value.get("name") or path.name,
            content_type=value.get("contentType"),
            data_type=value.get("dataType"),
            url=value.get("url"),
            size=path.stat().st_size if size is None else size,
        )

    def open(self, mode: str = "rb", encoding: Optional[str] = None, **options: Any) -> IO[Any]:
        """Opens the file: bytes by default; with `mode="r"` text, UTF-8 unless said otherwise."""
        if "b" not in mode and encoding is None:
            encoding = "utf-8"
        return open(self.path, mode, encoding=encoding, **options)

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.path.read_text(encoding=encoding)
