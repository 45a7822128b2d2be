"""Guard: a small process between tenbin and a server. When tenbin ends, however it ends, the server ends too.

It starts the command that it is given, in a session of its own: a Ctrl-C at the terminal reaches tenbin only,
which then decides. The guard's input is a pipe that tenbin holds open; the system closes it when tenbin ends,
also where it is killed. Then, or when the server itself ends, all processes of the server's group are ended.
The guard's exit code is the server's. Only the standard library: it is run by its path, with the seconds from
the request to end until what is left is killed, then the command.
"""

import os
import signal
import subprocess
import sys
import threading
import time

LOOK_EVERY_S = 0.1


def main(grace_s: float, command: list[str]) -> int:
    """Start the command, end it when the input closes; its exit code."""
    for kind in (signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)
    closed = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: closed.set())
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"cannot be started: {error}", flush=True)
        return 127

    def wait_for_the_end() -> None:
        while os.read(0, 1024):
            pass
        closed.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while server.poll() is None and not closed.wait(LOOK_EVERY_S):
        pass
    end_group(server, grace_s)
    code = server.wait()
    return code if code >= 0 else 128 - code


def end_group(server: "subprocess.Popen[bytes]", grace_s: float) -> None:
    """Ask every process of the server's group to end, and kill what is left after a while."""
    signal_group(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        server.poll()  # takes the exit code, so that the group can be empty
        if not signal_group(server.pid, 0):
            return
        time.sleep(LOOK_EVERY_S)
    signal_group(server.pid, signal.SIGKILL)


def signal_group(group: int, kind: int) -> bool:
    """Send a signal to a group; False where nobody is left in it."""
    try:
        os.killpg(group, kind)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    code = main(float(sys.argv[1]), sys.argv[2:])
    sys.stdout.flush()
    os._exit(code)  # the thread that reads waits for ever where the server ended by itself
