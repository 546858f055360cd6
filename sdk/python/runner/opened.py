"""Nodes of a pipeline while they are open: how their functions are called.

A plain function works in a thread of its node's own, in as many as the node may do
things at a time; `async` ones work in one event loop, all nodes together.
"""

from __future__ import annotations

import asyncio
import collections
import inspect
import itertools
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Deque, Dict, Iterable, Iterator, List
from typing import Optional, Set, Tuple

from runner.nodes import CONTEXT, Node, NodeContext
from runner.outcome import BAD_PARAMS, CANCELLED, FAILED, PART, Refusal, failed

if TYPE_CHECKING:
    from runner.items import Items

#: Items that may be made of one.
MAX_MADE = 65_536
#: How long a source may gather items before it hands them over, in seconds.
GATHERING = 0.01
#: Items that a plain source may have made before it is asked.
MAX_AHEAD = 1024
#: How long a source may take to stop when the run is over, in seconds.
LEAVING = 0.2
#: The most threads of one node.
MAX_THREADS = 64

Message = Dict[str, Any]


def is_async(plugin: Node) -> bool:
    function = inspect.unwrap(plugin.function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def limited(made: Iterable[Any]) -> List[Any]:
    """All that was made of one item, up to a limit."""
    values = list(itertools.islice(made, MAX_MADE + 1))
    if len(values) > MAX_MADE:
        raise OverflowError(f"it made more than {MAX_MADE} items of one")
    return values


class Ahead:
    """A source that is a plain generator, at work in a thread of its own: what it has made can be had while it waits."""

    def __init__(self, made: Iterator[Any]) -> None:
        self.made = made
        self.changed = threading.Condition()
        self.values: Deque[Any] = collections.deque()
        self.error: Optional[BaseException] = None
        self.is_over = False
        self.is_left = False
        self.thread = threading.Thread(target=self._work, name="source", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            for value in self.made:
                with self.changed:
                    self.values.append(value)
                    self.changed.notify_all()
                    while len(self.values) >= MAX_AHEAD and not self.is_left:
                        self.changed.wait()
                    if self.is_left:
                        break
            if hasattr(self.made, "close"):
                self.made.close()
        except BaseException as error:
            self.error = error
        with self.changed:
            self.is_over = True
            self.changed.notify_all()

    def take(self, most: int) -> Tuple[List[Any], bool]:
        """What there is, at most so many, as soon as there is any; and whether that is the end."""
        with self.changed:
            while not self.values and not self.is_over and not self.is_left:
                self.changed.wait()
            taken: List[Any] = []
            size = 0
            while self.values and len(taken) < most and size < PART:
                taken.append(self.values.popleft())
                size += len(taken[-1]) if isinstance(taken[-1], str) else 1
            self.changed.notify_all()
            is_end = self.is_over and not self.values
            if is_end and self.error is not None and not taken:
                raise self.error
            return taken, is_end and self.error is None

    def interrupt(self) -> None:
        """Nobody waits for more."""
        with self.changed:
            self.is_left = True
            self.changed.notify_all()

    def leave(self) -> None:
        """Ends the generator, unless it cannot be stopped where it is."""
        self.interrupt()
        self.thread.join(LEAVING)


class Opened:
    """A node while it is open."""

    def __init__(self, items: Items, plugin: Node, id: int, params: Dict[str, Any]) -> None:
        self.items = items
        self.plugin = plugin
        self.function = plugin.function
        self.concurrency = max(1, int(params.get("concurrency") or 1))
        with_ = params.get("with")
        #: What every item gets, or None where each has its own.
        self.fixed: Optional[Dict[str, Any]] = None
        self.wrong: Optional[str] = None
        try:
            self.fixed = None if with_ is None else plugin.arguments(with_)
        except (TypeError, ValueError) as error:
            self.wrong = str(error)
        name = str(params.get("name") or plugin.name)
        directory = params.get("directory")
        self.context = NodeContext(name, self.fixed or {}, items.values, directory)
        self.more: Dict[str, Any] = {CONTEXT: self.context} if plugin.wants_context else {}
        #: Requests that nobody waits for any more.
        self.dropped: Set[Any] = set()
        self.begin(id)

    def begin(self, id: int) -> None:
        """Sets up, and answers `open`."""
        raise NotImplementedError

    def put(self, message: Message) -> None:
        """Answers a request when its turn comes."""
        raise NotImplementedError

    def drop(self, id: Any) -> None:
        """Lets go of a request, if that is possible."""
        raise NotImplementedError

    def leave(self) -> None:
        """Cleans up: the pipeline is gone."""
        raise NotImplementedError

    def join(self) -> None:
        """Waits until it has cleaned up."""
        raise NotImplementedError

    def common(self) -> Optional[Dict[str, Any]]:
        """What the function gets beside its item, where that is the same for all."""
        return None if self.fixed is None else {**self.fixed, **self.more}

    def own(self, given: Dict[str, Any]) -> Dict[str, Any]:
        """What the function gets beside an item that has parameters of its own."""
        return {**self.plugin.arguments(given), **self.more}

    def refused(self, error: BaseException, id: int) -> None:
        self.items.fail(id, getattr(error, "code", FAILED), failed(error)["error"])


class ThreadNode(Opened):
    """A node that is a plain function or generator."""

    def begin(self, id: int) -> None:
        self.requests: "queue.SimpleQueue[Optional[Message]]" = queue.SimpleQueue()
        self.ahead: Optional[Ahead] = None
        self.yields = inspect.isgeneratorfunction(inspect.unwrap(self.function))
        self.threads: List[threading.Thread] = []
        self._start(self._first, id)

    def _start(self, work: Any, *arguments: Any) -> None:
        name = f"node {self.context.name}"
        thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _first(self, id: int) -> None:
        """The thread that sets up, works, and cleans up."""
        try:
            if self.wrong is not None:
                raise Refusal(BAD_PARAMS, self.wrong)
            self._hook(self.plugin.setup_function)
        except BaseException as error:
            self.refused(error, id)
            return
        for _ in range(min(self.concurrency, MAX_THREADS) - 1):
            self._start(self._work)
        self.items.answer(id, {})
        last = self._work()
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join()
        try:
            if self.ahead is not None:
                self.ahead.leave()
            self._hook(self.plugin.cleanup_function)
        except BaseException as error:
            if last is not None:
                self.refused(error, last)
            return
        if last is not None:
            self.items.answer(last, {})

    def _hook(self, function: Any) -> None:
        if function is not None:
            done = function(self.context)
            if inspect.iscoroutine(done):
                asyncio.run(done)

    def _work(self) -> Optional[int]:
        """Answers requests until `close`, whose id it gives, or the end."""
        while True:
            message = self.requests.get()
            if message is None or message["method"] == "close":
                self.requests.put(None)  # for the other threads
                return None if message is None else message["id"]
            id = message["id"]
            if id in self.dropped:
                self.dropped.discard(id)
                self.items.fail(id, CANCELLED, "dropped")
                continue
            try:
                if message["method"] == "pull":
                    pulled = self._pull(id, int(message["params"]["count"]))
                    self.items.answer_pulled(id, *pulled)
                else:
                    self.items.answer_made(id, self._outcomes(message))
            except BaseException as error:
                self.refused(error, id)

    def _outcomes(self, message: Message) -> List[Any]:
        function, common = self.function, self.common()
        made: List[Any] = []
        items = message["params"]["items"]
        for item, given in zip(items, message["params"].get("with") or itertools.repeat(None)):
            try:
                value = function(item, **(self.own(given) if common is None else common))
                if self.yields:
                    made.append(limited(value))
                else:
                    made.append(() if value is None else (value,))
            except Exception as error:
                made.append(failed(error))
        return made

    def _pull(self, id: int, most: int) -> Tuple[List[Any], bool]:
        if self.ahead is None:
            self.ahead = Ahead(iter(self.function(**(self.common() or {}))))
        if id in self.dropped:  # it was told before there was anything to interrupt
            self.ahead.interrupt()
        return self.ahead.take(most)

    def put(self, message: Message) -> None:
        self.requests.put(message)

    def drop(self, id: Any) -> None:
        self.dropped.add(id)
        if self.ahead is not None:
            self.ahead.interrupt()

    def leave(self) -> None:
        self.requests.put(None)
        if self.ahead is not None:
            self.ahead.interrupt()

    def join(self) -> None:
        self.threads[0].join()


class AsyncNode(Opened):
    """A node that is an `async` function or generator."""

    def begin(self, id: int) -> None:
        self.loop = self.items.running_loop()
        self.yields = inspect.isasyncgenfunction(inspect.unwrap(self.function))
        self.made: Optional[AsyncIterator[Any]] = None
        #: The next value of a source, on its way.
        self.step: "Optional[asyncio.Task[Tuple[Any, bool]]]" = None
        self.turns = asyncio.Semaphore(self.concurrency)
        self.tasks: Dict[int, "asyncio.Task[None]"] = {}
        self.over = threading.Event()
        self._soon(self._begin(id))

    def _soon(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop)

    async def _begin(self, id: int) -> None:
        try:
            if self.wrong is not None:
                raise Refusal(BAD_PARAMS, self.wrong)
            await self._hook(self.plugin.setup_function)
        except BaseException as error:
            self.refused(error, id)
            self.over.set()
            return
        self.items.answer(id, {})

    async def _hook(self, function: Any) -> None:
        if function is not None:
            done = function(self.context)
            if inspect.isawaitable(done):
                await done

    def put(self, message: Message) -> None:
        self.loop.call_soon_threadsafe(self._begin_request, message)

    def _begin_request(self, message: Message) -> None:
        id = message["id"]
        task = self.loop.create_task(self._answer(message))
        if message["method"] != "close":
            self.tasks[id] = task
            task.add_done_callback(lambda task: self._done(id, task))

    def _done(self, id: int, task: "asyncio.Task[None]") -> None:
        del self.tasks[id]
        if task.cancelled():  # perhaps before it began
            self.items.fail(id, CANCELLED, "dropped")

    async def _answer(self, message: Message) -> None:
        id, method = message["id"], message["method"]
        try:
            if method == "close":
                await self._end()
                self.items.answer(id, {})
                return
            async with self.turns:
                if method == "pull":
                    pulled = await self._pull(int(message["params"]["count"]))
                    self.items.answer_pulled(id, *pulled)
                else:
                    self.items.answer_made(id, await self._outcomes(message))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.refused(error, id)

    async def _outcomes(self, message: Message) -> List[Any]:
        function, common = self.function, self.common()
        made: List[Any] = []
        items = message["params"]["items"]
        for item, given in zip(items, message["params"].get("with") or itertools.repeat(None)):
            try:
                arguments = self.own(given) if common is None else common
                if self.yields:
                    values = []
                    async for value in function(item, **arguments):
                        values.append(value)
                        if len(values) > MAX_MADE:
                            raise OverflowError(f"it made more than {MAX_MADE} items of one")
                    made.append(values)
                else:
                    value = await function(item, **arguments)
                    made.append(() if value is None else (value,))
            except Exception as error:
                made.append(failed(error))
        return made

    async def _pull(self, most: int) -> Tuple[List[Any], bool]:
        if self.made is None:
            self.made = self.function(**(self.common() or {})).__aiter__()
        values: List[Any] = []
        end = time.monotonic() + GATHERING
        while len(values) < most:
            if self.step is None:
                self.step = self.loop.create_task(_step(self.made))
            patience = max(0.0, end - time.monotonic()) if values else None
            done, _ = await asyncio.wait({self.step}, timeout=patience)
            if not done:
                break
            step, self.step = self.step, None
            value, is_end = step.result()
            if is_end:
                return values, True
            values.append(value)
        return values, False

    async def _end(self) -> None:
        try:
            for task in [*self.tasks.values()]:
                task.cancel()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
            if self.step is not None:
                self.step.cancel()
                await asyncio.gather(self.step, return_exceptions=True)
            if self.made is not None and hasattr(self.made, "aclose"):
                await self.made.aclose()
            await self._hook(self.plugin.cleanup_function)
        finally:
            self.over.set()

    def drop(self, id: Any) -> None:
        def cancel() -> None:
            task = self.tasks.get(id)
            if task is not None:
                task.cancel()

        self.loop.call_soon_threadsafe(cancel)

    def leave(self) -> None:
        if not self.over.is_set():
            self._soon(self._end())

    def join(self) -> None:
        self.over.wait()


async def _step(made: AsyncIterator[Any]) -> Tuple[Any, bool]:
    try:
        return await made.__anext__(), False
    except StopAsyncIteration:
        return None, True
