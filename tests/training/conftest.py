"""The tiny problem, trained in processes that start in a moment."""

import socket
import sys
from pathlib import Path

import pytest

# In importlib mode the folder of a test is not on the path, and other processes need it there.
sys.path.insert(0, str(Path(__file__).parent))

import tiny_problem


@pytest.fixture(scope="session")
def start(forking, free_port):
    """Begin to train the tiny problem in a process of its own, or in several together."""

    def start(directory, *, processes=1, **changes):
        together = {}
        if processes > 1:
            together = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": str(free_port())}  # fmt: skip
        started = []
        for rank in range(processes):
            environment = together | (
                {"RANK": str(rank), "LOCAL_RANK": str(rank)} if together else {}
            )
            arguments = (str(directory), environment, dict(changes))
            process = forking.Process(target=tiny_problem.run_in_process, args=arguments)
            process.start()
            started.append(process)
        return started

    return start


@pytest.fixture(scope="session")
def train(start):
    """Train the tiny problem in other processes until they end; gives the folder."""

    def train(directory, **changes):
        for process in start(directory, **changes):
            process.join()
            assert process.exitcode == 0
        return directory

    return train


@pytest.fixture(scope="session")
def free_port():
    """Finds a port where processes can meet."""
    return _free_port


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
