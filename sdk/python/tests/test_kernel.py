"""The zygote of kernels and its forks, spoken to as the runner does; without IPython."""

import json
import os
import struct
import sys
import tempfile
import unittest
from pathlib import Path

from runner.kernel import room, watch, wire

from .zygote import ZygoteCase


class WireTest(unittest.TestCase):
    def test_a_frame_is_read_as_it_was_written(self):
        parts = [b"shell", b'{"msg_id": "1"}', b"{}", b"{}", b'{"code": "x"}', b"\x00\xff", b""]
        frame = wire.encode(parts)[wire.LENGTH.size :]
        message = wire.decode(frame)
        self.assertEqual((message.channel, message.content), ("shell", {"code": "x"}))
        self.assertEqual(message.buffers, [b"\x00\xff", b""])

    def test_what_is_no_frame_is_a_value_error(self):
        for frame in (b"", b"\0" * 8, struct.pack("<Q", 1 << 40), b"\xff" * 64):
            with self.assertRaises(ValueError):
                wire.decode(frame)

    def test_values_that_json_does_not_have_are_told_as_text(self):
        told = json.loads(wire.to_json({"a": float("nan"), "b": b"\x89", "c": {1, 1}, "d": object}))
        self.assertEqual((told["a"], told["b"], told["c"]), ("nan", "iQ==", [1]))


@unittest.skipUnless(sys.implementation.name == "cpython", "others keep objects elsewhere")
class RoomTest(unittest.TestCase):
    def test_what_is_made_after_it_stands_in_pools_of_its_own(self):
        # Free blocks among others.
        size = 112 - sys.getsizeof(b"")
        strewn = [bytes(size) for _ in range(10_000)]
        del strewn[::3]
        filling = room.fill()
        self.assertLess(sum(map(sys.getsizeof, filling)), room.MOST)
        last = [block for block in filling if isinstance(block, bytes) and len(block) == size][-1]
        new = [bytes(size) for _ in range(10)]
        pools = {id(block) // room.POOL for block in new}
        self.assertEqual(pools, {id(last) // room.POOL})


class QuotaTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.quota = watch.Quota(1 << 20, None)

    def write(self, size):
        Path(self.folder, f"file-{len(os.listdir(self.folder))}").write_bytes(b"x" * size)

    def look(self):
        for seen in self.quota.seen.values():
            seen.next = 0.0  # at once
        return self.quota.look(self.folder, {"one": self.folder}).get("one")

    def test_who_has_less_or_writes_nothing_more_is_left_alone(self):
        self.write(1 << 19)
        self.assertIsNone(self.look())
        self.write(3 << 18)
        why, is_end = self.look()
        self.assertIn("SESSION_FILES_PER_SESSION", why)
        self.assertFalse(is_end)
        self.assertIsNone(self.look())

    def test_who_goes_on_to_write_is_warned_once_and_then_ended(self):
        self.write(5 << 18)
        self.assertEqual(self.look()[1], False)
        self.write(1 << 14)
        self.assertEqual(self.look(), ("", False))
        self.quota.seen[self.folder].since -= 3
        self.write(1 << 14)
        self.assertTrue(self.look()[1])
        # Its next kernel has the same files.
        self.assertIsNone(self.look())

    def test_who_has_twice_as_much_is_ended_at_once(self):
        self.write(5 << 19)
        why, is_end = self.look()
        self.assertTrue(is_end)
        self.assertIn(str(1 << 20), why)

    def test_nobody_is_looked_at_without_a_limit(self):
        self.write(1 << 16)
        self.assertEqual(watch.Quota(None, None).look(self.folder, {"one": self.folder}), {})


class ZygoteTest(ZygoteCase):
    def test_a_fork_runs_cells_and_dies_alone(self):
        first, second = self.fork("first"), self.fork("second")
        said = self.run_in(first, "print('hello'); 6 * 7")
        self.assertEqual(said["stream"]["text"], "hello\n")
        self.assertEqual(said["execute_result"]["data"]["text/plain"], "42")
        self.assertEqual(self.run_in(second, "x")["execute_reply"]["ename"], "NameError")
        self.control.send(json.dumps({"kill": "first"}).encode())
        self.assertEqual(self.hear(), {"ended": "first", "status": "signal 9 (SIGKILL)"})
        self.assertEqual(self.run_in(second, "1")["execute_reply"]["status"], "ok")

    def test_the_rest_of_a_line_is_waited_for(self):
        rest = "from runner.kernel import output\nimport sys, time\noutput._REST_OF_LINE = 600\n"
        code = "sys.stdout.write('one, ')\ntime.sleep(0.1)\nsys.stdout.write('two\\n')"
        self.assertEqual(self.run_in(self.fork("one"), rest + code)["stream"]["text"], "one, two\n")

    def test_what_is_no_whole_line_comes_before_the_cell_ends(self):
        line = self.fork("one")
        reply = self.interrupted("one", line, "print('begun', end='')\nwhile True: pass", said="begun")
        self.assertEqual(reply["ename"], "KeyboardInterrupt")

    def test_forks_throw_dice_of_their_own(self):
        thrown = set()
        for name in ("first", "second", "third"):
            said = self.run_in(self.fork(name), "import random; random.random()")
            thrown.add(said["execute_result"]["data"]["text/plain"])
        self.assertEqual(len(thrown), 3)

    def test_an_interrupt_breaks_off_code_and_not_the_kernel(self):
        line = self.fork("one")
        reply = self.interrupted("one", line, "print('begun', flush=True)\nwhile True: pass")
        self.assertEqual(reply["ename"], "KeyboardInterrupt")
        self.assertEqual(self.run_in(line, "1")["execute_reply"]["status"], "ok")

    def test_what_is_queued_behind_a_failure_is_aborted_after_its_end(self):
        line = self.fork("one")
        codes = {"1": "import time; time.sleep(0.2); 1 / 0", "2": "print('not run')"}
        for name, code in codes.items():
            header = {"msg_id": name, "msg_type": "execute_request"}
            line.write(wire.encode([b"shell", wire.to_json(header), b"{}", b"{}", wire.to_json({"code": code})]))
        heard = []
        while ("2", "idle") not in heard:
            message = line.read()
            said = message.content.get("execution_state") or message.content.get("status") or message.header["msg_type"]
            heard.append((message.parent.get("msg_id"), said))
        of_first = [at for at, (name, _) in enumerate(heard) if name == "1"]
        of_second = [at for at, (name, _) in enumerate(heard) if name == "2"]
        self.assertLess(max(of_first), min(of_second))
        self.assertEqual([heard[at][1] for at in of_second], ["busy", "aborted", "idle"])

    def test_a_kernel_with_too_many_processes_is_ended(self):
        line, other = self.fork("one"), self.fork("other")
        code = "import os, signal\nfor _ in range(250):\n    if os.fork() == 0:\n        signal.pause()\n"
        header = {"msg_id": "1", "msg_type": "execute_request"}
        line.write(wire.encode([b"shell", wire.to_json(header), b"{}", b"{}", wire.to_json({"code": code})]))
        over = self.hear()
        self.assertEqual(over["over"], "one")
        self.assertIn("SESSION_PROCESSES", over["status"])
        self.assertEqual(self.hear()["ended"], "one")
        self.assertEqual(self.run_in(other, "1")["execute_reply"]["status"], "ok")

    def test_what_a_kernel_started_ends_with_it(self):
        line = self.fork("one")
        code = "import os, subprocess\np = subprocess.Popen(['setsid', 'sleep', '60'])\nprint(p.pid)"
        pid = int(self.run_in(line, code)["stream"]["text"])
        line.socket.close()
        self.assertEqual(self.hear()["ended"], "one")
        self.assertFalse(os.path.exists(f"/proc/{pid}"))


#: A filter of system calls that allows everything: `return SECCOMP_RET_ALLOW`.
ALLOW = [6, 0, 0, 0, 0, 0, 255, 127]
#: Who is there, and whether something from before the fork can be read.
THERE = "import os; print(os.getpid(), sorted(int(name) for name in os.listdir('/proc') if name.isdigit()))"


class SpacesTest(ZygoteCase):
    config = {"filter": ALLOW, "preload": ["ssl"]}
    prelude = "import ssl; ssl.RAND_bytes(1)"

    def setUp(self):
        super().setUp()
        if self.ready["shared"] is not None:
            self.skipTest(self.ready["shared"])

    def test_a_kernel_is_alone(self):
        first, second = self.fork("first"), self.fork("second")
        for line in (first, second):
            own, there = self.run_in(line, THERE)["stream"]["text"].split(maxsplit=1)
            self.assertEqual(there, f"[1, {own}]\n")
            self.assertNotEqual(own, "2")
        # Not even its name is there.
        beside = self.run_in(first, f"os.stat({os.path.join(self.folder, 'second')!r})")["execute_reply"]
        self.assertEqual(beside["ename"], "FileNotFoundError")

    def test_forks_are_known_by_their_numbers(self):
        """What sees a fork by the number of its process makes other random numbers in each."""
        code = "import ssl; ssl.RAND_bytes(8)"
        made = {self.run_in(self.fork(name), code)["execute_result"]["data"]["text/plain"] for name in ("a", "b", "c")}
        self.assertEqual(len(made), 3)

    def test_an_interrupt_and_its_end_reach_it(self):
        code = "import os\nif os.fork() == 0: os.setsid()\nprint('begun', flush=True)\nwhile True: pass"
        reply = self.interrupted("one", self.fork("one"), code)
        self.assertEqual(reply["ename"], "KeyboardInterrupt")
        self.control.send(json.dumps({"kill": "one"}).encode())
        self.assertEqual(self.hear(), {"ended": "one", "status": "signal 9 (SIGKILL)"})


class SharedTest(ZygoteCase):
    config = {"filter": ALLOW}
    prelude = "from runner.kernel import spaces; spaces._CLONE = {}"

    def test_a_zygote_that_cannot_nest_is_confined_itself_and_says_why(self):
        self.assertIn("system calls are not known", self.ready["shared"])
        line = self.fork("one")
        self.assertEqual(self.run_in(line, THERE)["execute_reply"]["ename"], "PermissionError")
        self.assertEqual(self.run_in(line, "open('kept', 'w').write('x')")["execute_result"]["data"]["text/plain"], "1")
        with open(f"/proc/{self.zygote.pid}/status", encoding="ascii") as file:
            self.assertIn("Seccomp:\t2\n", file.read())


if __name__ == "__main__":
    unittest.main()
