"""What networks do to a call that is up: each case cuts, loses, flushes or moves in mid-call, and measures the
gap of speech in both recordings."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import pathlib
import shutil
import time

import sound
from network import Internet, LabError, Wire, tool
from phones import Ringtrue
from servers import TURN, Servers

FLUSH = pathlib.Path(__file__).parent / "conntrack_flush.py"
ALICE_TONE, BOB_TONE = 880, 440
BEFORE = 4.0             # seconds of talk before the fault
AFTER = 8.0              # and after it
NOTICED = 0.045          # a shorter silence is no gap


@dataclasses.dataclass
class Fault:
    """One kind of trouble. `strike(call)` makes it and returns once it is over."""

    name: str
    strike: object
    lasts: float = 0.0                 # seconds that it takes
    limit: float = 1.0                 # seconds of silence that it may cost beyond that
    alice: str = "port-restricted"
    bob: str = "port-restricted"
    options: tuple = ()
    survives: bool = True
    moves: bool = False                # alice's path is another one afterwards


def same_nat(call):
    """A new subnet behind the same NAT, as when a Wi-Fi hands out other addresses."""
    call.router.ip("address add 192.168.5.1/24 dev lan",
                   f"neighbor replace 192.168.5.10 lladdr {call.mac('eth0')} dev lan nud permanent")
    call.alice_host.ip("address del 192.168.1.10/24 dev eth0",
                       "address add 192.168.5.10/24 dev eth0",
                       "neighbor replace 192.168.5.1 lladdr 02:00:00:ff:00:01 dev eth0 nud permanent",
                       "route replace default via 192.168.5.1")


def other_nat(call):
    """Another interface behind another NAT, as from Wi-Fi to LTE. The other NAT stands before the call."""
    call.alice_host.ip("link set eth0 down", "address flush dev eth0", "address add 192.168.6.10/24 dev eth1",
                       "neighbor replace 192.168.6.1 lladdr 02:00:00:ff:00:01 dev eth1 nud permanent",
                       "route replace default via 192.168.6.1")


def better_interface(call):
    """A VPN comes up beside what is there and takes the default route."""
    call.alice_host.ip("address add 192.168.6.10/24 dev eth1",
                       "neighbor replace 192.168.6.1 lladdr 02:00:00:ff:00:01 dev eth1 nud permanent",
                       "rule add from 192.168.1.10 table 10",
                       "route add default via 192.168.1.1 dev eth0 table 10",
                       "route del default via 192.168.1.1",
                       "route add default via 192.168.6.1 dev eth1",
                       "route add default via 192.168.1.1 dev eth0 metric 600")


def flushed(call):
    call.router.run("python3", str(FLUSH))


def turn_restarted(call):
    call.servers.restart("coturn")


def with_rule(rule, seconds):
    """A rule of alice's router that stands for a while."""
    def strike(call):
        call.router.run("nft", "-f", "-", text=f"""
table ip fault {{
    chain forward {{
        type filter hook forward priority filter - 20;
        {rule}
    }}
}}""")
        time.sleep(seconds)
        call.router.run("nft", "delete", "table", "ip", "fault")
    return strike


FAULTS = [
    Fault("new-subnet-same-nat", same_nat, moves=True),
    Fault("other-nat", other_nat, moves=True),
    Fault("better-interface", better_interface, limit=0.1, moves=True),
    # A symmetric NAT gives other ports afterwards.
    Fault("nat-flushed", flushed, alice="symmetric", bob="full-cone", moves=True),
    Fault("nat-flushed-same-ports", flushed, limit=0.5),
    Fault("turn-restarted", turn_restarted, limit=4.0, alice="symmetric", bob="symmetric", options=("--turn", TURN), moves=True),
    Fault("loss-30-percent", with_rule("meta l4proto udp numgen random mod 100 < 30 drop", 10), lasts=10, limit=1.0),
    Fault("cut-20-s", with_rule("drop", 20), lasts=20, limit=1.0),
    Fault("cut-60-s", with_rule("drop", 60), lasts=60, survives=False),
]


@dataclasses.dataclass
class Silence:
    """What a recording holds of a tone: its longest silence, and how long it was heard after that."""

    longest: float = 0.0
    end: float = 0.0
    last: float = 0.0
    total: float = 0.0


def silence_in(path, hertz):
    found = Silence()
    if not pathlib.Path(path).exists():
        return found
    rate, samples = sound.read_wav(path)
    heard = None
    for number, present in enumerate(sound.tone_windows(rate, samples, hertz)):
        if not present:
            continue
        now = number * sound.HOP
        found.total += sound.HOP
        if heard is not None and now - heard - sound.HOP > max(found.longest, NOTICED):
            found.longest, found.end = now - heard - sound.HOP, now
        heard = found.last = now
    return found


class Call:
    """One call with one fault."""

    def __init__(self, internet, servers, fault, number, directory, binary):
        self.internet, self.servers, self.fault, self.binary = internet, servers, fault, binary
        self.tag = f"{number}"
        self.directory = directory / fault.name
        self.directory.mkdir(parents=True)
        self.failures = []
        self.gaps = ("-", "-")
        self.exits = (None, None)
        self.ends = (None, None)

    def expect(self, truth, otherwise):
        if not truth:
            self.failures.append(otherwise)

    def mac(self, device):
        shown = self.alice_host.run("cat", f"/sys/class/net/{device}/address")
        return shown.strip()

    def run(self):
        a, b = self.tag + "a", self.tag + "b"
        self.alice_host = self.internet.host(a, self.fault.alice)
        bob_host = self.internet.host(b, self.fault.bob, lan="192.168.2", number=20)
        self.router = self.named(a + "-nat")
        # The second way out, without an address yet.
        second = self.internet.nat(a + "2-nat", "port-restricted", "192.168.6")
        wire = Wire(second, "lan10", self.alice_host, "eth1")
        second.ip("link set lan10 master lan",
                  f"neighbor replace 192.168.6.10 lladdr {wire.right_mac} dev lan nud permanent")
        namespaces = [self.alice_host, bob_host, self.router, second] + [
            space for space in self.internet.namespaces if space.name == f"{self.internet.prefix}-{b}-nat"]
        alice = Ringtrue(self.binary, self.alice_host, self.directory, "alice" + self.tag, ALICE_TONE)
        bob = Ringtrue(self.binary, bob_host, self.directory, "bob" + self.tag, BOB_TONE)
        try:
            self.talk(alice, bob)
        finally:
            alice.stop()
            bob.stop()
            left = [process for space in (self.alice_host, bob_host) for process in
                    tool("ip", "netns", "pids", space.name).split()]
            self.internet.discard(namespaces)
        self.expect(not left, f"processes are left: {left}")
        self.judge(alice, bob)
        return self

    def named(self, name):
        return next(space for space in self.internet.namespaces if space.name == f"{self.internet.prefix}-{name}")

    def talk(self, alice, bob):
        if not bob.listen(answer="after:0"):
            raise LabError("the callee did not register")
        seconds = BEFORE + self.fault.lasts + AFTER
        alice.call(bob.user, f"{seconds:.0f}", more=self.fault.options)
        if alice.await_event("answered", 15) is None:
            raise LabError("the call was not answered")
        time.sleep(BEFORE)
        struck = time.monotonic()
        self.fault.strike(self)
        patience = seconds + 15 - (time.monotonic() - struck)
        self.exits = (alice.await_end(max(patience, 1)), bob.await_end(5))

    def judge(self, alice, bob):
        heard = [silence_in(bob.wav, ALICE_TONE), silence_in(alice.wav, BOB_TONE)]
        self.gaps = tuple(f"{one.longest:.2f} s" for one in heard)
        self.ends = tuple((phone.first("ended") or {}).get("reason") for phone in (alice, bob))
        if not self.fault.survives:
            self.expect(self.exits == (3, 3), f"exit codes {self.exits}, expected 3 and 3")
            self.expect(self.ends == ("consent-lost", "consent-lost"), f"ended for the reasons {self.ends}")
            return
        self.expect(self.exits == (0, 0), f"exit codes {self.exits}, expected 0 and 0")
        paths = {path["local"] for path in alice.events("path_selected")}
        self.expect(not self.fault.moves or len(paths) > 1, "alice has the path of before")
        allowed = self.fault.limit + (self.fault.lasts if self.fault.name.startswith("cut") else 0)
        for one, way in zip(heard, ("alice to bob", "bob to alice")):
            self.expect(one.total > 0 and one.longest <= allowed, f"{way}: {one.longest:.2f} s of silence")
            self.expect(one.last - one.end >= AFTER - self.fault.limit - 2, f"{way}: not heard again to the end")


def attempt(call):
    try:
        return call.run()
    except Exception as error:  # One broken call must not hide the others.
        call.failures.append(f"{type(error).__name__}: {error}")
        return call


def verb(options, directory, binary):
    """Runs the chosen faults side by side; the exit status."""
    names = [fault.name for fault in FAULTS]
    for word in options.pairing:
        if word not in names:
            raise LabError(f"no fault is called {word}; there are: {', '.join(names)}")
    chosen = [fault for fault in FAULTS if not options.pairing or fault.name in options.pairing]
    internet = Internet(options.prefix, options.loss)
    servers = None
    executor = concurrent.futures.ThreadPoolExecutor(options.jobs)
    try:
        servers = Servers(internet, directory)
        calls = [Call(internet, servers, fault, number, directory, binary) for number, fault in enumerate(chosen)]
        # The long ones first; the servers' restart last, when nobody else needs them.
        order = sorted(calls, key=lambda call: (call.fault.name == "turn-restarted", -call.fault.lasts))
        list(executor.map(attempt, order))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        if servers:
            servers.stop()
        internet.remove()
    print(f"{'what happens':24} {'gap a->b':>9} {'gap b->a':>9}  exits  ended for      verdict")
    for call in calls:
        exits = "/".join("-" if status is None else str(status) for status in call.exits)
        verdict = "ok" if not call.failures else "FAILED: " + "; ".join(call.failures)
        print(f"{call.fault.name:24} {call.gaps[0]:>9} {call.gaps[1]:>9}  {exits:5}  {call.ends[0] or '-':13}  {verdict}")
    failed = [call for call in calls if call.failures]
    if failed or options.keep:
        print(f"logs and recordings: {directory}")
    else:
        shutil.rmtree(directory)
    return 1 if failed else 0
