"""An exception of a plugin, as the runner is told of it."""

from __future__ import annotations

import os

from runner.module import SDK_FOLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

#: The code of JSON-RPC for a plugin that failed.
FAILED = -32000
#: The most that is told of a traceback, in characters; the middle is left out.
MAX_TRACEBACK = 64 * 1024


def failure(error: BaseException) -> Dict[str, Any]:
    """An exception of the plugin as an error of JSON-RPC."""
    try:
        message = " ".join(repr(error).splitlines()) or type(error).__name__
    except BaseException as worse:
        message = f"{type(error).__name__} (its repr raised {type(worse).__name__})"
    try:
        trace = own_frames(error)
        import traceback

        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as worse:
        text = f"no traceback: formatting it raised {type(worse).__name__}"
    return {
        "code": FAILED,
        "message": _shortened(message, MAX_TRACEBACK),
        "data": {"traceback": _shortened(text, MAX_TRACEBACK)},
    }


def own_frames(error: BaseException) -> Any:
    """The traceback from the first frame on that is not the SDK's."""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((SDK_FOLDER + os.sep, "<frozen importlib")):
            return trace
        trace = trace.tb_next
    return None


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
