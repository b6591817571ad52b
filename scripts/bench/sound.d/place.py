"""Where a call takes place: two namespaces, each with one TUN device, and the box between them.

       phone a                                 phone b
    [ 198.18.0.1 ] --- tun, box.py, tun --- [ 198.18.0.2 ]

Every call has a place of its own, so addresses and ports repeat and calls do not meet.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

DEVICE = "line0"
ADDRESSES = ("198.18.0.1", "198.18.0.2")   # the benchmark range of RFC 2544
_lock = threading.Lock()
_count = 0


class PlaceError(Exception):
    """A step of building failed; the message says which."""


def tool(*command):
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode != 0:
        raise PlaceError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def end(process, patience=3.0):
    """Ends a process by its id: politely first. Returns its exit status."""
    for step in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(step)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    return process.wait()


class Place:
    """Two namespaces joined by a box that treats RTP as `specification` says; by a plain wire without one."""

    def __init__(self, prefix, directory, specification):
        global _count
        with _lock:
            _count += 1
            number = _count
        self.directory = pathlib.Path(directory)
        self.namespaces = [f"{prefix}-{number}{side}" for side in "ab"]
        self.box = None
        self._made = []
        try:
            self._build(specification)
        except BaseException:
            self.remove()
            raise

    def _build(self, specification):
        for namespace in self.namespaces:
            tool("ip", "netns", "add", namespace)
            self._made.append(namespace)
            tool("ip", "-n", namespace, "link", "set", "lo", "up")
        if specification is None:
            tool("ip", "link", "add", DEVICE, "netns", self.namespaces[0], "type", "veth",
                 "peer", "name", DEVICE, "netns", self.namespaces[1])
        else:
            self._start_box(specification)
        for namespace, own, other in zip(self.namespaces, ADDRESSES, reversed(ADDRESSES)):
            tool("ip", "-n", namespace, "address", "add", own, "peer", other, "dev", DEVICE)
            tool("ip", "-n", namespace, "link", "set", DEVICE, "up")
            tool("ip", "-n", namespace, "route", "add", "default", "dev", DEVICE)

    def _start_box(self, specification):
        (self.directory / "box.spec").write_text(json.dumps(specification))
        program = pathlib.Path(__file__).parent / "box.py"
        self.box = subprocess.Popen([sys.executable, str(program), *self.namespaces, DEVICE,
                                     str(self.directory / "box.spec"), str(self.directory / "box.json")],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if b"ready" not in self.box.stdout.readline():
            raise PlaceError("the box did not start: TUN devices are needed (/dev/net/tun)")

    def popen(self, side, command, **options):
        """Starts a process in namespace 0 or 1. `ip netns exec` becomes the command, so the id is its own."""
        return subprocess.Popen(["ip", "netns", "exec", self.namespaces[side], *command], **options)

    def measured(self):
        """Stops the box and reads what it counted."""
        end(self.box)
        return json.loads((self.directory / "box.json").read_text())

    def remove(self):
        if self.box is not None:
            end(self.box)
            self.box.stdout.close()
        for namespace in self._made:
            listed = subprocess.run(["ip", "netns", "pids", namespace], text=True, capture_output=True)
            for process in listed.stdout.split():
                try:
                    os.kill(int(process), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for _ in range(10):
                if subprocess.run(["ip", "netns", "del", namespace], capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)
        self._made = []
