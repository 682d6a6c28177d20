"""`python SCRIPT ...` for tests, in a copy of a process that has imported torch, which takes most of a tiny run.

The server is `python warm_python.py serve SOCKET`. Other commands than scripts (-m, -c) run in a new interpreter.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

STREAMS = (0, 1, 2)
IMPORTED = [
    "metakd.export.sessions", "metakd.evaluation.evaluating", "metakd.training.dry_run", "metakd.training.distillation",
    "metakd.training.teacher_training", "metakd.translation.training", "sklearn.linear_model",
]  # fmt: skip


def ask(path: str, arguments: list[str]) -> int:
    """Have the server run a script with this process's streams, environment and folder; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = json.dumps([arguments, dict(os.environ), str(Path.cwd())]).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], STREAMS)
        connection.sendall(request)
        code = connection.recv(1)
    return code[0] if code else 128 + signal.SIGKILL


def serve(path: str) -> None:
    """Answer `ask` by a copy of this process for each script, until the process that started this one is gone."""
    import importlib

    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the copies
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path + ".new")
        server.listen(64)
        Path(path + ".new").rename(path)  # it is there when it listens
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                answer(connection)
            connection.close()


def answer(connection: socket.socket) -> None:
    """Run what was asked for; does not return."""
    import random
    import runpy
    import traceback

    import datasets
    import numpy as np
    import torch

    header, streams, _, _ = socket.recv_fds(connection, 8, len(STREAMS))
    with connection.makefile("rb") as file:
        arguments, environment, folder = json.loads(file.read(int.from_bytes(header, "big")))
    for stream, here in zip(streams, STREAMS, strict=True):
        os.dup2(stream, here)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    datasets.config.HF_DATASETS_CACHE = Path(environment["HF_DATASETS_CACHE"])
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent)
    random.seed()
    np.random.seed()
    code = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code & 255]))
    os._exit(code)


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    if first == "serve":
        serve(rest[0])
    elif rest and rest[0].endswith(".py"):
        sys.exit(ask(first, rest))
    else:
        os.execv(sys.executable, [sys.executable, *rest])
