"""A zygote and its forks, spoken to as the runner does; without IPython."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from runner.kernel import wire

SDK = Path(__file__).parents[1]


@unittest.skipUnless(sys.platform == "linux", "sessions are forked with what Linux has")
class ZygoteCase(unittest.TestCase):
    #: Beyond what every zygote is told.
    config = {}
    #: What is done before it begins.
    prelude = ""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        # Whoever has IPython does without it here.
        hidden = Path(self.folder, "hidden", "IPython")
        hidden.mkdir(parents=True)
        hidden.joinpath("__init__.py").write_text("raise ImportError('hidden')")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(30)
        self.addCleanup(self.control.close)
        prefixes = {sys.prefix, sys.base_prefix}
        readable = ["/usr", "/lib", "/lib64", "/bin", str(SDK), *prefixes]
        config = {"readable": readable, "processes": 200, **self.config}
        kept = theirs.fileno()
        code = f"{self.prelude}\nimport sys, json; from runner.kernel.zygote import Zygote; sys.exit(Zygote(json.loads(sys.argv[1]), {kept}).serve())"
        environment = {**os.environ, "PYTHONPATH": f"{hidden.parent}:{SDK}"}
        command = [sys.executable, "-c", code, json.dumps(config)]
        self.zygote = subprocess.Popen(command, pass_fds=[kept], env=environment)
        self.addCleanup(self.zygote.wait)
        self.addCleanup(self.zygote.kill)
        theirs.close()
        self.ready = self.hear()
        self.assertEqual(self.ready["ready"]["implementation"], "runner")

    def hear(self):
        return json.loads(self.control.recv(1 << 16))

    def fork(self, name):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        ours.settimeout(30)
        order = {"fork": name, "folder": os.path.join(self.folder, name)}
        socket.send_fds(self.control, [json.dumps(order).encode()], [theirs.fileno(), 2])
        theirs.close()
        return wire.Line(ours)

    def ask(self, line, kind, content):
        """All that is said about a request, up to idle."""
        header = {"msg_id": os.urandom(4).hex(), "msg_type": kind}
        line.write(wire.encode([b"shell", wire.to_json(header), b"{}", b"{}", wire.to_json(content)]))
        heard = []
        while not heard or heard[-1].content.get("execution_state") != "idle":
            message = line.read()
            self.assertIsNotNone(message, "the kernel ended")
            if message.parent.get("msg_id") == header["msg_id"]:
                heard.append(message)
        return heard

    def run_in(self, line, code):
        """What a cell said last of each kind."""
        return {message.header["msg_type"]: message.content for message in self.ask(line, "execute_request", {"code": code})}

    def interrupted(self, name, line, code, said="begun\n"):
        """Interrupts a cell when it has said that it begun; what it replies."""
        header = {"msg_id": "1", "msg_type": "execute_request"}
        line.write(wire.encode([b"shell", wire.to_json(header), b"{}", b"{}", wire.to_json({"code": code})]))
        while line.read().content.get("text") != said:
            pass
        self.control.send(json.dumps({"interrupt": name}).encode())
        while (message := line.read()).header["msg_type"] != "execute_reply":
            pass
        return message.content
