"""Processes and the folder of a measurement, which end with it, however it ends."""

import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time

# Seconds that a process has to end after it was asked to.
PATIENCE = 10


class Failure(Exception):
    """Something could not be measured, and why."""


class Process:
    """A process with a group of its own, and its log."""

    def __init__(self, guard, name, command, stop, **options):
        self.name, self._guard, self._stop = name, guard, stop
        self.log = os.path.join(guard.folder, f"{name}.log")
        with open(self.log, "ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True, **options
            )
        self.pid = self._child.pid
        guard.started(self)

    def wait_for(self, text, seconds=30):
        """Reads until a line begins so; answers the line. What comes later is not read: little may come."""
        end = time.monotonic() + seconds
        got = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0, end - time.monotonic())):
                    raise Failure(f"{self.name} did not say {text!r} within {seconds} s{self.last_words()}")
                read = os.read(self._child.stdout.fileno(), 65536)
                if not read:
                    raise Failure(f"{self.name} ended before it said {text!r}{self.last_words()}")
                got += read
                *lines, _ = got.decode(errors="replace").split("\n")
                for line in lines:
                    if line.startswith(text):
                        return line

    def last_words(self):
        with open(self.log, errors="replace") as log:
            lines = log.read().splitlines()[-5:]
        return ": " + " / ".join(lines) if lines else ""

    def stop(self):
        if self._child.poll() is None:
            os.killpg(self.pid, self._stop)
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        try:
            # What the process left behind goes too.
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait()
        self._child.stdout.close()
        self._guard.stopped(self)


class Guard:
    """Keeps a temporary folder and the processes. `close` ends both; when this process is killed before, a
    child that waits for just that does it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="runner-scale-")
        # PostgreSQL refuses root, and its user has to get to its folder below.
        os.chmod(self.folder, 0o711)
        self._processes = []
        read, self._write = os.pipe()
        self._janitor = os.fork()
        if self._janitor == 0:
            os.close(self._write)
            janitor(read, self.folder)
        os.close(read)

    def start(self, name, command, stop=signal.SIGTERM, **options):
        return Process(self, name, command, stop, **options)

    def started(self, process):
        self._processes.append(process)
        os.write(self._write, f"+ {process.pid} {int(process._stop)}\n".encode())

    def stopped(self, process):
        self._processes.remove(process)
        os.write(self._write, f"- {process.pid} 0\n".encode())

    def close(self):
        for process in reversed(self._processes[:]):
            process.stop()
        os.close(self._write)
        os.waitpid(self._janitor, 0)


def janitor(read, folder):
    """Waits for the end of its parent, then ends what is left. Never returns."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups = {}
    with os.fdopen(read) as pipe:
        for line in pipe:
            what, group, stop = line.split()
            if what == "+":
                groups[int(group)] = int(stop)
            else:
                groups.pop(int(group), None)
    for group, stop in reversed(groups.items()):
        end(group, stop)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def end(group, stop):
    deadline = time.monotonic() + PATIENCE
    try:
        os.killpg(group, stop)
        while is_alive(group) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def cpu_seconds(pids):
    """Processor time that processes and all below them have used, with their children that have ended."""
    tick = os.sysconf("SC_CLK_TCK")
    parents, times = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(name)] = int(fields[1])
        times[int(name)] = sum(map(int, fields[11:15])) / tick
    wanted = set(pids)
    total = 0.0
    for pid in times:
        above = pid
        while above and above not in wanted:
            above = parents.get(above, 0)
        if above:
            total += times[pid]
    return total


def busy_seconds():
    """Processor time that everything on this machine has used."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
