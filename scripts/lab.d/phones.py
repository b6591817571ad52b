"""The phone under test, run as a real process in a namespace."""

import json
import os
import pathlib
import signal
import subprocess
import time

import sound
from servers import PROXY, STUN, TURN_PASSWORD


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


class Ringtrue:
    """One `ringtrue` process; what it says comes from its JSON lines."""

    def __init__(self, binary, host, directory, user, tone):
        self.binary, self.host, self.user, self.tone = binary, host, user, tone
        self.directory = pathlib.Path(directory)
        self.wav = self.directory / f"{user}.wav"
        self.log = self.directory / f"{user}.jsonl"
        self.process = None
        self.started = None
        self.seconds = None

    def _options(self, tcp, more):
        proxy = f"sip:{PROXY};transport=tcp" if tcp else f"sip:{PROXY}"
        return ["--aor", f"sip:{self.user}@{PROXY}", "--proxy", proxy, "--stun", STUN, "--json",
                "--audio-in", f"tone:{self.tone}", "--audio-out", str(self.wav), *more]

    def _start(self, arguments):
        command = [str(self.binary), *arguments]
        (self.directory / f"{self.user}.command").write_text(" ".join(command) + "\n")
        environment = dict(os.environ, RUST_BACKTRACE="1")
        environment["XDG_CONFIG_HOME"] = str(self.directory)
        environment["RINGTRUE_TURN_PASSWORD"] = TURN_PASSWORD
        with open(self.log, "wb") as out, open(self.directory / f"{self.user}.err", "wb") as err:
            self.process = self.host.popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                           env=environment, cwd=self.directory)
        self.started = time.monotonic()

    def call(self, user, duration, tcp=False, more=()):
        self._start(["call", f"sip:{user}@{PROXY}", "--duration", str(duration), *self._options(tcp, more)])

    def listen(self, answer="after:1", tcp=False, more=()):
        """Starts waiting for one call; returns once it is registered."""
        self._start(["listen", "--register", "--once", "--answer", answer, *self._options(tcp, more)])
        return self.await_event("registered", 10)

    def events(self, name=None):
        lines = self.log.read_bytes().split(b"\n") if self.log.exists() else []
        found = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and (name is None or event.get("event") == name):
                found.append(event)
        return found

    def first(self, name, **fields):
        for event in self.events(name):
            if all(event.get(key) == value for key, value in fields.items()):
                return event
        return None

    def await_event(self, name, patience):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found = self.first(name)
            if found or self.process.poll() is not None:
                return found
            time.sleep(0.05)
        return None

    def await_end(self, patience):
        """The exit status, or None when it had to be ended."""
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            status = None
            end(self.process)
        self.seconds = time.monotonic() - self.started
        return status

    def stop(self):
        if self.process is not None:
            end(self.process)

    def heard(self, tone):
        return sound.listen(self.wav, tone)

    def order_of(self, *names):
        """Whether these events happened, in this order."""
        times = [self.first(name) for name in names]
        if any(event is None for event in times):
            return False
        return all(a["t_ms"] <= b["t_ms"] for a, b in zip(times, times[1:]))

    def rang(self):
        return self.first("ringing") is not None

    def verified(self):
        event = self.first("ringing")
        return event.get("verified") if event else None
