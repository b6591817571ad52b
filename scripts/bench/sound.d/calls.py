"""One call of a cell: two phones, the box between them, what they cost and what came out."""

import pathlib
import shutil
import time

import speech
from phones import PHONES
from place import Place

SETTLE = 4.0       # seconds after the answer, and before the end, that the figures of cost leave out
TAIL = 1.5         # seconds of call after the last piece, for what is still in a buffer

# name: (codec, what the box does to RTP). The order is that of the tables.
CELLS = {
    "clean": ("opus", {}),
    "random-5": ("opus", {"loss": 0.05}),
    "random-10": ("opus", {"loss": 0.10}),
    "random-20": ("opus", {"loss": 0.20}),
    "random-30": ("opus", {"loss": 0.30}),
    "burst-10": ("opus", {"loss": 0.10, "burst": 4}),
    "burst-20": ("opus", {"loss": 0.20, "burst": 4}),
    "jitter-60": ("opus", {"jitter_ms": 60}),
    "g711-clean": ("pcmu", {}),
    "g711-10": ("pcmu", {"loss": 0.10}),
    "g711-20": ("pcmu", {"loss": 0.20}),
}


def mode_of(cell):
    """PESQ's: what the codec carries."""
    return "nb" if CELLS[cell][0] == "pcmu" else "wb"


class Call:
    """Runs one call; afterwards `recordings` are where it says, and `result` has the rest."""

    def __init__(self, prefix, directory, program, cell, number, talks, seed):
        self.program, self.cell, self.number = program, cell, number
        self.prefix, self.talks = prefix, talks
        self.directory = pathlib.Path(directory) / f"{program}-{cell}-{number}"
        # Both programs meet the same losses: the seed does not know who calls.
        self.specification = dict(CELLS[cell][1], seed=f"{seed}-{cell}-{number}")
        self.recordings = []
        self.result = {"program": program, "cell": cell, "call": number, "trouble": None}

    def run(self):
        self.directory.mkdir(parents=True)
        place = Place(self.prefix, self.directory, self.specification)
        make = PHONES[self.program]
        # Short names: baresip's recordings have 128 bytes for their path.
        phones = [make(self.directory, name, lambda *a, side=side, **o: place.popen(side, *a, **o))
                  for side, name in enumerate(("alice", "bob"))]
        try:
            self._talk(phones)
            self.result["box"] = place.measured()
        finally:
            for phone in phones:
                phone.stop()
            place.remove()
        self.recordings = [phone.recording() for phone in reversed(phones)]

    def _talk(self, phones):
        codec = CELLS[self.cell][0]
        alice, bob = phones
        seconds = len(self.talks[0]) / speech.RATE + TAIL
        if not bob.listen(codec, self.talks[1]):
            self.result["trouble"] = "the callee did not start"
            return
        alice.call(codec, self.talks[0], seconds)
        if not alice.await_output(alice.established, 15):
            self.result["trouble"] = "no call was established"
            return
        began = time.monotonic()
        time.sleep(SETTLE)
        before, since = [phone.cpu_seconds() for phone in phones], time.monotonic()
        time.sleep(max(0.0, began + seconds - SETTLE - time.monotonic()))
        after, passed = [phone.cpu_seconds() for phone in phones], time.monotonic() - since
        if None in before + after or passed < 1:
            self.result["trouble"] = "the call ended early"
            return
        self.result["cpu_percent"] = [round(100 * (b - a) / passed, 2) for a, b in zip(before, after)]
        self.result["memory_mb"] = [round(phone.memory_mb() or 0, 1) for phone in phones]
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        # The caller hangs up by itself, or is ended; either way it says goodbye.
        for phone in phones:
            phone.stop()

    def forget(self):
        shutil.rmtree(self.directory, ignore_errors=True)
