"""In place of `python -m MODULE ...` and `python -c CODE ...`: a process that has imported everything forks for the command.

tests.support.warm_python copies this file beside its socket as an executable. Output, exit status and signals pass through
it; when it is killed, the forked process is killed too. A command that it cannot hand over is started by Python itself.
"""

import json
import os
import signal
import socket
import sys


FOLDER = os.path.dirname(os.path.abspath(__file__))
# Variables that the modules read when they are imported.
READ_AT_IMPORT = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_", "HF_MODULES_CACHE", "HF_DATASETS_", "PYTHONPATH")


def main() -> None:
    options = [argument for argument in sys.argv[1:] if argument != "-u"]
    with open(f"{FOLDER}/environment.json") as file:
        imported_with = json.load(file)
    fits = all(
        imported_with.get(name) == value for name, value in os.environ.items() if name.startswith(READ_AT_IMPORT)
    )
    if options[:1] not in (["-m"], ["-c"]) or not fits:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    sys.exit(hand_over(options))


def hand_over(command: list[str]) -> int:
    """Have the command run, and return its exit status; dies of the signal that it died of."""
    environment = os.environ | {"PYTHON_EXEC": f"{FOLDER}/python"}  # how torch's launcher starts its processes
    request = json.dumps({"command": command, "environment": environment, "folder": os.getcwd()}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{FOLDER}/socket")
        namespaces = [os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in ("user", "mnt", "net")]
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2, *namespaces])
        connection.sendall(request)
        with connection.makefile() as answers:
            process = int(next(answers))
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda number, _: os.kill(process, number))
            status = int(next(answers))
    if status < 0:
        if status != -signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    main()
