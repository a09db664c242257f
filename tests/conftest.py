"""For all tests: no network, no wall-clock deadlines, and the size of the core at the end of every run."""

import os
import sys

import hypothesis
import pytest
from rooms import CORE, CORE_LIMIT, SPINE, SPINE_LIMIT, lines_of

# A loaded machine is slow, not wrong. CI draws the same examples every time.
hypothesis.settings.register_profile(
    "daguerre", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("daguerre")


def refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook that lets sockets reach this machine only."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise ConnectionRefusedError(f"a test tried to reach {address[0]}; tests use no network")


sys.addaudithook(refuse_network)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rooms = ", ".join(f"{name.removesuffix('.py')} {lines}" for name, lines in lines_of(CORE).items())
    terminalreporter.write_line(f"core: {sum(lines_of(CORE).values()):,} of {CORE_LIMIT:,} lines ({rooms})")
    terminalreporter.write_line(f"spine: {sum(lines_of(SPINE).values())} of {SPINE_LIMIT} lines")
