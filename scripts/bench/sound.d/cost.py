"""What a call costs: many calls of one phone on one core, over a plain wire."""

import os
import pathlib
import time

import score
import speech
from phones import PHONES
from place import Place

SETTLE = 3.0       # seconds after the last answer
MEASURED = 10.0    # seconds over which CPU time is taken


class Crowd:
    """One phone answers `calls` calls at once, on a core of its own; the callers share the other cores."""

    def __init__(self, prefix, directory, program, calls, talk):
        self.program, self.calls, self.talk = program, calls, talk
        self.prefix = prefix
        self.directory = pathlib.Path(directory) / f"{program}-crowd"
        self.result = {"program": program, "calls": calls, "trouble": None}

    def run(self):
        self.directory.mkdir(parents=True)
        place = Place(self.prefix, self.directory, None)
        make = PHONES[self.program]
        cores = sorted(os.sched_getaffinity(0))
        self.callee = make(self.directory, "bob", lambda *a, **o: place.popen(1, *a, **o))
        self.callee.prefix = ["taskset", "-c", str(cores[0])]
        self.callers = [make(self.directory, f"a{number}", lambda *a, **o: place.popen(0, *a, **o))
                        for number in range(self.calls)]
        for caller in self.callers:
            caller.prefix = ["taskset", "-c", ",".join(map(str, cores[1:] or cores))]
        try:
            self._talk()
        finally:
            for phone in (*self.callers, self.callee):
                phone.stop()
            place.remove()

    def _talk(self):
        seconds = len(self.talk) / speech.RATE
        if not self.callee.answer_many("opus", self.talk, self.calls):
            self.result["trouble"] = "the callee did not start"
            return
        for number, caller in enumerate(self.callers):
            caller.call_from("opus", self.talk, seconds, number)
            time.sleep(0.05)
        if not self.callee.await_output(self.callee.established, 15, self.calls):
            self.result["trouble"] = "not all calls were established"
            return
        time.sleep(SETTLE)
        before, since = self.callee.cpu_seconds(), time.monotonic()
        time.sleep(MEASURED)
        after, passed = self.callee.cpu_seconds(), time.monotonic() - since
        if before is None or after is None:
            self.result["trouble"] = "the phone ended early"
            return
        self.result["cpu_percent_per_call"] = round(100 * (after - before) / passed / self.calls, 2)
        self.result["memory_mb"] = round(self.callee.memory_mb() or 0, 1)

    def score(self):
        """How the first piece sounded in every call, both ways, where the phone keeps one recording a call."""
        if self.result["trouble"] or not self.callee.records_every_call:
            return
        first = self.talk[:int(speech.PIECE * speech.RATE)]
        paths = [caller.recording() for caller in self.callers]
        paths += [self.callee.recording(number + 1) for number in range(self.calls)]
        marks = sorted(score.score(first, path, "wb")[0]["pesq"] for path in paths)
        self.result["pesq"] = {"lowest": marks[0], "median": marks[len(marks) // 2], "count": len(marks)}
