#!/usr/bin/env python3
"""The impairment box: carries packets between two TUN devices, and loses or delays RTP on the way.

    phone a --- tun --- [ box ] --- tun --- phone b

It stands in for the kernel's netem, which not every kernel has, and does one thing that netem cannot: it tells
RTP from the STUN, DTLS, RTCP and SIP beside it, by their first bytes (RFC 7983, RFC 5761), so that only media
suffers and no call fails for a lost signalling packet. SRTP looks alike: its header is in the clear.

    box.py NAMESPACE-A NAMESPACE-B DEVICE SPECIFICATION.json RESULT.json

Runs until SIGTERM; the result says what passed and what did not, each way, and how late the box itself was.
"""

import collections
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
TICK = 0.010       # seconds between two looks at how late the box itself is woken
LATE = 0.005       # seconds from which on a wake-up counts as missed
UDP = 17


def classify(packet):
    """(kind, length of the RTP payload) of one IP packet; kind is rtp, rtcp, stun, dtls or other."""
    if len(packet) < 28:
        return "other", 0
    version = packet[0] >> 4
    if version == 4:
        head = (packet[0] & 15) * 4
        # A later fragment has no UDP header to look at.
        if packet[9] != UDP or (packet[6] & 0x1F) | packet[7]:
            return "other", 0
    elif version == 6 and packet[6] == UDP:
        head = 40
    else:
        return "other", 0
    body = packet[head + 8:]
    if not body:
        return "other", 0
    first = body[0]
    if first < 4:
        return "stun", 0
    if 20 <= first < 64:
        return "dtls", 0
    if not 128 <= first < 192 or len(body) < 8:
        return "other", 0
    # RFC 5761 section 4: these are RTCP's packet types where RTP has its marker and payload type.
    if 192 <= body[1] <= 223:
        return "rtcp", 0
    if len(body) < 12:
        return "other", 0
    length = 12 + 4 * (first & 15)
    if first & 16 and len(body) >= length + 4:
        length += 4 + 4 * struct.unpack_from("!H", body, length + 2)[0]
    return "rtp", max(0, len(body) - length)


class Losses:
    """Which of a stream's packets are lost: none, each by itself, or in bursts."""

    def __init__(self, rate, burst, seed):
        self.rate, self.burst = rate, burst
        self.random = random.Random(seed)
        self.bad = self.random.random() < rate

    def next(self):
        """Whether the next packet is lost. In bursts: a Gilbert chain, which loses every packet of its bad state;
        that lasts `burst` packets on average, and is entered as often as the rate wants it."""
        if self.rate <= 0:
            return False
        if self.burst <= 1:
            return self.random.random() < self.rate
        lost = self.bad
        leave = 1 / self.burst
        if self.bad:
            self.bad = self.random.random() >= leave
        else:
            self.bad = self.random.random() < leave * self.rate / (1 - self.rate)
        return lost


class Direction:
    """One way through the box."""

    def __init__(self, specification, seed):
        self.losses = Losses(specification.get("loss", 0.0), specification.get("burst", 1), seed)
        self.jitter = specification.get("jitter_ms", 0) / 1000
        self.random = random.Random(seed + "-jitter")
        self.kinds = collections.Counter()
        self.payload_types = collections.Counter()
        self.lost = self.payload_bytes = self.ip_bytes = self.overtaken = 0
        self.bursts = []
        self.first = self.last = None
        self.departures = []
        self._run = 0
        self._latest_due = 0.0

    def judge(self, packet, now):
        """When this packet is to leave: now, later, or None for never."""
        kind, payload = classify(packet)
        self.kinds[kind] += 1
        if kind != "rtp":
            return now
        if self.first is None:
            self.first = now
        self.last = now
        self.payload_bytes += payload
        self.ip_bytes += len(packet)
        self.departures.append(now)
        self.payload_types[packet[(packet[0] & 15) * 4 + 9 if packet[0] >> 4 == 4 else 49] & 127] += 1
        if self.losses.next():
            self.lost += 1
            self._run += 1
            return None
        if self._run:
            self.bursts.append(self._run)
            self._run = 0
        due = now + self.random.uniform(0, self.jitter) if self.jitter else now
        if due < self._latest_due:
            self.overtaken += 1
        self._latest_due = max(self._latest_due, due)
        return due

    def result(self):
        packets = self.kinds["rtp"]
        seconds = self.last - self.first if packets > 1 else None
        return {
            "packets": dict(self.kinds),
            "payload_types": {str(kind): count for kind, count in self.payload_types.items()},
            "lost": self.lost,
            "loss": self.lost / packets if packets else None,
            "mean_burst": sum(self.bursts) / len(self.bursts) if self.bursts else None,
            "overtaken": self.overtaken,
            "seconds": seconds,
            # The last packet's own duration is not in `seconds`, so it is not counted.
            "rtp_payload_kbps": self.payload_bytes * 8 / 1000 / seconds * (packets - 1) / packets if seconds else None,
            "ip_kbps": self.ip_bytes * 8 / 1000 / seconds * (packets - 1) / packets if seconds else None,
            "sender_unsteadiness_ms": self._unsteadiness(),
        }

    def _unsteadiness(self):
        """How far, at the 99th percentile, a sender's packets leave from an even beat (their own median gap)."""
        gaps = [after - before for before, after in zip(self.departures, self.departures[1:])]
        if not gaps:
            return None
        usual = sorted(gaps)[len(gaps) // 2]
        off = sorted(abs(gap - usual) for gap in gaps)
        return round(off[int(len(off) * 0.99)] * 1000, 2)


class Box:
    """Both ways, the packets that wait, and how late the box itself was."""

    def __init__(self, devices, specification):
        self.devices = devices
        seed = str(specification.get("seed", 1))
        self.ways = [Direction(specification, f"{seed}-{way}") for way in "ab"]
        self.waiting = []
        self.count = 0
        self.ticks, self.missed, self.worst = 0, 0, 0.0
        self.lateness = []
        self.running = True

    def stop(self, *_):
        self.running = False

    def run(self):
        tick = time.monotonic() + TICK
        while self.running:
            wake = min(tick, self.waiting[0][0]) if self.waiting else tick
            ready, _, _ = select.select(self.devices, [], [], max(0, wake - time.monotonic()))
            now = time.monotonic()
            if now >= tick:
                self._note(now - tick)
                # Missed ticks are missed; they do not come in a heap afterwards.
                tick = now + TICK
            for device in ready:
                self._read(self.devices.index(device))
            self._release()

    def _note(self, late):
        self.ticks += 1
        self.lateness.append(late)
        self.worst = max(self.worst, late)
        if late > LATE:
            self.missed += 1

    def _read(self, way):
        while True:
            try:
                packet = os.read(self.devices[way], 2048)
            except BlockingIOError:
                return
            now = time.monotonic()
            due = self.ways[way].judge(packet, now)
            if due is None:
                continue
            if due <= now:
                self._write(1 - way, packet)
            else:
                self.count += 1
                heapq.heappush(self.waiting, (due, self.count, 1 - way, packet))

    def _release(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _, _, side, packet = heapq.heappop(self.waiting)
            self._write(side, packet)

    def _write(self, side, packet):
        try:
            os.write(self.devices[side], packet)
        except OSError:
            pass  # the far device is full or gone, as a network may be

    def result(self):
        late = sorted(self.lateness)
        return {
            "a_to_b": self.ways[0].result(),
            "b_to_a": self.ways[1].result(),
            "late": {
                "ticks": self.ticks,
                "missed": self.missed,
                "missed_share": self.missed / self.ticks if self.ticks else 0.0,
                "p99_ms": round(late[int(len(late) * 0.99)] * 1000, 2) if late else None,
                "worst_ms": round(self.worst * 1000, 2),
            },
        }


def open_tun(namespace, device):
    """A TUN device inside a namespace; the descriptor stays valid after we left it again."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as home, open(f"/run/netns/{namespace}", "rb") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)
    return descriptor


def hurry():
    """A box that is late is a worse network than the one it was told to be."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        except OSError:
            pass


def main():
    one, other, device, specification, result = sys.argv[1:6]
    with open(specification) as file:
        box = Box([open_tun(one, device), open_tun(other, device)], json.load(file))
    signal.signal(signal.SIGTERM, box.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hurry()
    print("ready", flush=True)
    box.run()
    with open(result, "w") as file:
        json.dump(box.result(), file)


if __name__ == "__main__":
    main()
