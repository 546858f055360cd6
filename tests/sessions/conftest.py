"""Servers and kernels for the tests."""

import sys

import pytest

sys.dont_write_bytecode = True

from support.target import TARGETS, adopt_orphans  # noqa: E402
from support.wire import FORMS, Channels  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--target", choices=sorted(TARGETS), default="runner", help="the server that is tested")


def pytest_collection_modifyitems(config, items):
    name = TARGETS[config.getoption("target")].name
    for item in items:
        can = {"runner"} if item.get_closest_marker("runner") else {kind.name for kind in TARGETS.values()}
        for marker in item.iter_markers("targets"):
            can &= set(marker.args)
        if name not in can:
            item.add_marker(pytest.mark.skip(reason=f"only on {', '.join(sorted(can))}"))


def pytest_configure():
    adopt_orphans()


@pytest.fixture(scope="session")
def target(request):
    """The server of all tests that do not spoil it."""
    server = TARGETS[request.config.getoption("target")]()
    yield server
    alive = server.process.poll() is None
    words = server.last_words()
    server.stop()
    assert alive, f"the server ended under the tests:\n{words}"
    assert "an error of the runner" not in words and "panicked" not in words, words


@pytest.fixture
def start_target(request):
    """Starts servers with settings of a test."""
    started = []

    def start(settings=None, **more):
        started.append(TARGETS[request.config.getoption("target")](settings, **more))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def kernel(target):
    """The id of a fresh kernel."""
    id = target.start_kernel()
    yield id
    target.end_kernel(id)


@pytest.fixture(params=FORMS)
def form(request):
    """Both forms of messages on the wire."""
    return request.param


@pytest.fixture
def channels(target, kernel, form):
    """A client of a fresh kernel."""
    with Channels(target, kernel, form) as client:
        yield client


@pytest.fixture
def client(target, kernel):
    """A client of a fresh kernel, where the form does not matter."""
    with Channels(target, kernel) as client:
        yield client
