"""What became of an item, as JSON, and what an item may be."""

from __future__ import annotations

import json
from typing import Any, Dict

FAILED, CANCELLED, UNKNOWN_METHOD, BAD_PARAMS = -32000, -32001, -32601, -32602
#: The longest item as JSON, in bytes.
MAX_ITEM = 16 * 1024 * 1024
#: Bytes of outcomes that are sent together.
PART = 1024 * 1024


class Refusal(Exception):
    """A request that cannot be answered well."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def encode(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def failed(error: BaseException) -> Dict[str, str]:
    """What became of an item that raised."""
    if isinstance(error, Refusal):
        return {"error": str(error)}
    try:
        text = " ".join(f"{type(error).__name__}: {error}".split())
    except BaseException as worse:
        text = f"{type(error).__name__} (its text raised {type(worse).__name__})"
    return {"error": text[:65536]}


def outcome_text(outcome: Any) -> bytes:
    try:
        text = encode(outcome)
    except (TypeError, ValueError, RecursionError) as error:
        return encode({"error": f"what it made is no JSON: {error}", "lasting": True})
    if len(text) > MAX_ITEM:
        what = f"what it made has {len(text)} bytes as JSON; an item has at most {MAX_ITEM}"
        return encode({"error": what, "lasting": True})
    return text
