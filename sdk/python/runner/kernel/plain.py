"""A shell of the standard library alone."""

from __future__ import annotations

import ast
import codeop
import inspect
import linecache
import platform
import re
import rlcompleter
import sys
import traceback
import types
from typing import Any, Callable, Dict, List, Tuple

from runner.failure import own_frames

_NAME = re.compile(r"[\w.]*$")


class PlainShell:
    implementation = ("runner", "1.0")
    banner = f"Python {platform.python_version()}; IPython is not installed here"

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.execution_count = 1
        self.module = types.ModuleType("__main__")
        self.names = self.module.__dict__
        self.past: List[Tuple[int, str]] = []
        self.compile = codeop.Compile()

    def execute(self, code: str, silent: bool, store: bool, expressions: Dict[str, str]) -> Dict[str, Any]:
        number = self.execution_count
        sys.modules["__main__"] = self.module
        sys.displayhook = lambda value: self._display(value, number, silent)
        try:
            self._run(code, f"<cell {number}>")
        except BaseException as error:
            reply = self._failed(error)
        else:
            reply = {"status": "ok", "user_expressions": self.values(expressions), "payload": []}
        if store:
            self.past.append((number, code))
        if not silent:
            self.execution_count += 1
        return {"execution_count": number, **reply}

    def _run(self, code: str, file: str) -> None:
        linecache.cache[file] = (len(code), None, code.splitlines(True), file)
        tree = ast.parse(code, file)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(self.compile(tree, file, "exec"), self.names)  # type: ignore[arg-type]
        if last is not None:
            single = ast.Interactive([last])
            exec(self.compile(single, file, "single"), self.names)  # type: ignore[arg-type]

    def _display(self, value: Any, number: int, silent: bool) -> None:
        if value is None:
            return
        self.names["_"] = value
        if not silent:
            content = {"execution_count": number, "data": self._shown(value), "metadata": {}}
            self.kernel.publish("execute_result", content)

    def _shown(self, value: Any) -> Dict[str, Any]:
        data = {"text/plain": repr(value)}
        method = getattr(type(value), "_repr_html_", None)
        if method is not None:
            data["text/html"] = method(value)
        return data

    def _failed(self, error: BaseException) -> Dict[str, Any]:
        trace = None if isinstance(error, SyntaxError) else own_frames(error)
        lines = traceback.format_exception(type(error), error, trace)
        content = {"ename": type(error).__name__, "evalue": str(error), "traceback": [line.rstrip("\n") for line in lines]}
        self.kernel.publish("error", content)
        return {"status": "error", **content}

    def values(self, expressions: Dict[str, str]) -> Dict[str, Any]:
        """What expressions of a client give."""
        return {name: self._value(text) for name, text in expressions.items()}

    def offer(self, names: Dict[str, Any]) -> None:
        """Gives the user names that the user has not taken."""
        for name, value in names.items():
            self.names.setdefault(name, value)

    def guard(self, function: Callable[[], None], caught: type[BaseException]) -> Dict[str, Any]:
        """Calls a function of the user. What it raises is shown, and answered; empty if it raises nothing."""
        try:
            function()
        except caught as error:
            return self._failed(error)
        return {}

    def show_figures(self) -> None:
        """Nothing draws into this shell."""

    def _value(self, expression: str) -> Dict[str, Any]:
        try:
            value = eval(expression, self.names)
            return {"status": "ok", "data": self._shown(value), "metadata": {}}
        except Exception as error:
            return {"status": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": []}

    def complete_at(self, code: str, position: int) -> Dict[str, Any]:
        found = _NAME.search(code[:position])
        name = found.group() if found else ""
        completer = rlcompleter.Completer(self.names)
        matches: List[str] = []
        while name:
            match = completer.complete(name, len(matches))
            if match is None or len(matches) > 1000:
                break
            matches.append(match.rstrip("( "))
        return {
            "status": "ok",
            "matches": list(dict.fromkeys(matches)),
            "cursor_start": position - len(name),
            "cursor_end": position,
            "metadata": {},
        }

    def inspect_at(self, code: str, position: int, level: int) -> Dict[str, Any]:
        before = _NAME.search(code[:position])
        after = re.match(r"\w*", code[position:])
        name = (before.group() if before else "") + (after.group() if after else "")
        name = name or "".join(re.findall(r"([\w.]+)\(?[^()]*$", code[:position])[-1:])
        try:
            value = eval(name, self.names)
        except Exception:
            return {}
        lines = [name]
        try:
            lines[0] += str(inspect.signature(value))
        except (TypeError, ValueError):
            lines.append(f"{type(value).__name__}: {value!r}"[:1000])
        lines.append(inspect.getdoc(value) or "")
        return {"text/plain": "\n".join(lines)}

    def is_complete(self, code: str) -> Dict[str, Any]:
        try:
            whole = codeop.compile_command(code, "<cell>", "exec")
        except (SyntaxError, ValueError, OverflowError):
            return {"status": "invalid"}
        lines = code.splitlines()
        if whole is not None:
            return {"status": "complete"}
        last = lines[-1] if lines else ""
        indent = last[: len(last) - len(last.lstrip())]
        return {"status": "incomplete", "indent": indent + ("    " if last.rstrip().endswith(":") else "")}

    def history(self) -> List[Tuple[int, str]]:
        return self.past
