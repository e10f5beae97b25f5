"""Start this repository's commands without waiting for their imports, which take each new process 4 to 7 seconds.

`warm_python()` is a program to be used in place of `sys.executable`: `[warm_python(), "-m", "trainer.train", ...]`, or `"-c"`
and code, runs in a process of its own, with the environment, folder, output, namespaces and signals of whoever starts it. That
process is a fork of one that has imported torch, transformers and what else the commands need, and has done nothing else.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch


ROOT = Path(__file__).parents[2]
IMPORTED = (
    *("trainer.train", "accelerate.commands.launch", "scripts.push_to_hub", "scripts.deploy_space", "scripts.predict"),
    *("scripts.prepare_data", "scripts.evaluate_model"),
)
# A Hub of the tests that serves here gets its environment from there: the client reads both when it is imported. The port
# lies below those that the system hands out, so nobody else is given it by chance.
HUB_PORT = 20_000 + os.getpid() % 10_000
HUB_HOME = Path(tempfile.gettempdir()) / f"hub_home_{os.getpid()}"


@cache
def warm_python() -> str:
    """The program's path. The process that forks is started at the first call, and ends with this one.

    `sys.executable` on other systems than Linux, which have no namespaces and no descriptors of processes.
    """
    if sys.platform != "linux":
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="warm_python_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_ENDPOINT": f"http://127.0.0.1:{HUB_PORT}",
        "HF_HOME": str(HUB_HOME),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    program = folder / "python"
    program.write_text(f"#!{sys.executable} -IS\n" + Path(__file__).with_name("warm_client.py").read_text())
    program.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        command = [sys.executable, "-u", "-m", "tests.support.warm_python", str(listener.fileno())]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "pass_fds": [listener.fileno()]}
        server = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # called first; the server ends when it reads the end of its input
    return str(program)


class Forks:
    """Forks for each request that arrives at the listener, and answers with the process's number, then its exit status."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._running: dict[int, tuple[int, socket.socket]] = {}  # pidfd -> process, whoever asked for it
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> tuple[str, str]:
        """Returns in the forked processes only: -m or -c, and the module or the code that each has to run."""
        while True:
            for key, _ in self._selector.select():
                if self._selector.get_map().get(key.fd) is not key:  # its process has ended in this round
                    continue
                if key.fileobj is sys.stdin:  # closed, as the tests have ended
                    os._exit(0)
                if key.fileobj is self._listener:
                    to_run = self._fork()
                    if to_run:
                        return to_run
                elif key.fd in self._running:
                    self._report(key.fd)
                else:  # whoever asked for it was killed
                    self._selector.unregister(key.fileobj)
                    kill_with_children(key.data)

    def _fork(self) -> tuple[str, str] | None:
        connection, _ = self._listener.accept()
        request, descriptors = receive(connection)
        process = os.fork()
        if process == 0:
            for key in self._selector.get_map().values():
                if key.fileobj is not sys.stdin:
                    os.close(key.fd)
            connection.close()
            self._selector.close()
            return become(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(f"{process}\n".encode())
        ended = os.pidfd_open(process)
        self._running[ended] = process, connection
        self._selector.register(ended, selectors.EVENT_READ)
        self._selector.register(connection, selectors.EVENT_READ, process)
        return None

    def _report(self, ended: int) -> None:
        process, connection = self._running.pop(ended)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        for watched in (ended, connection):
            if watched in self._selector.get_map():
                self._selector.unregister(watched)
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(f"{status}\n".encode())
        connection.close()
        os.close(ended)


def kill_with_children(number: int) -> None:
    process = psutil.Process(number)  # there is one of this number until its status has been read
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The request, and the descriptors of input, output, errors and three namespaces."""
    length, descriptors, _, _ = socket.recv_fds(connection, 8, 6)
    with connection.makefile("rb") as request:
        return json.loads(request.read(int.from_bytes(length, "big"))), descriptors


def become(request: dict[str, Any], descriptors: list[int]) -> tuple[str, str]:
    """Make this process what the request asks for, but for running it; returns -m or -c, and the module or code to run."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for name, descriptor in zip(("user", "mnt", "net"), descriptors[3:], strict=True):
        is_own = os.fstat(descriptor).st_ino == os.stat(f"/proc/self/ns/{name}").st_ino
        if not is_own and ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), f"cannot enter the {name} namespace")
    for descriptor in descriptors:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    os.chdir(request["folder"])
    option, what, *sys.argv[1:] = request["command"]
    sys.argv[0] = option
    sys.path[0] = request["folder"]
    sys.modules.pop(what, None)  # a module is run anew, as the main module
    return option, what


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    option, what = Forks(socket.socket(fileno=int(sys.argv[1]))).serve()
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)
