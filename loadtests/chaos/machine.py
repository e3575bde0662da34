"""Faults of the machine: no time on its cores, a port that another program takes while the server is away."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from loadtests.chaos.around import Around
from loadtests.chaos.fault import Fault

TAKING_S = 10.0


@contextmanager
def _starved(around: Around) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def _port_taken(around: Around) -> Iterator[None]:
    for process in around.processes("tritonserver")[:1]:
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + TAKING_S
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while time.monotonic() < until:
            try:
                thief.bind(("127.0.0.1", around.grpc_port))
                thief.listen()
                break
            except OSError:
                time.sleep(0.01)
        yield


FAULTS = (Fault("cores busy", _starved, 5.0),)
PORT_TAKEN = Fault("gRPC's port taken during a restart", _port_taken, 3.0)
