"""The calls of the laboratory: who calls whom from behind what, what is
expected, and how the outcome is judged."""

from __future__ import annotations

import dataclasses
import shutil
import time

import places
import trace
from foreign import FOREIGN, Aioice
from network import LabError
from phones import Ringtrue
from places import BEHIND_ONE, HOSTS, NO_UDP, RELAYED, TCP_ONLY, most_direct
from servers import PROXY, STUN, STUN_OTHER, TURN, TURN_TLS

ALICE_TONE, BOB_TONE = 880, 440
TALK = 4                 # seconds of a call
HEARD_ENOUGH = 3.0       # seconds of the other's tone in it
PATHLESS_LIMIT = 12.0    # seconds until a call without a path has ended
SERVERS = {PROXY, STUN, STUN_OTHER}


@dataclasses.dataclass
class Case:
    """One call. `caller_phone` and `callee_phone` are "ringtrue" or a foreign one's name."""

    caller: str
    callee: str
    expected: str                     # the name of a `_judge_…` below
    caller_phone: str = "ringtrue"
    callee_phone: str = "ringtrue"
    label: str = ""
    caller_options: tuple = ()
    callee_options: tuple = ()

    @property
    def name(self):
        return self.label or f"{self.caller}:{self.callee}"


@dataclasses.dataclass
class Outcome:
    """What came of it, and every expectation that it failed."""

    rang: bool = False
    ring_ms: object = None             # from the INVITE at the callee to its 180, on the wire
    verified: object = None
    a_to_b: object = None
    b_to_a: object = None
    exits: tuple = (None, None)
    seconds: float = 0.0
    failures: list = dataclasses.field(default_factory=list)

    @property
    def both_heard(self):
        return all(heard is not None and heard.total >= HEARD_ENOUGH for heard in (self.a_to_b, self.b_to_a))

    def expect(self, truth, otherwise):
        if not truth:
            self.failures.append(otherwise)


def pairings():
    """Every pairing of places, and the settings that decide on ICE."""
    cases = [Case(a, b, "no path" if most_direct(a, b) == RELAYED else "connected") for a, b in places.places()]
    cases.append(Case("open", "open", "unverified", label="no-ice", caller_options=("--no-ice",)))
    cases.append(Case("open", "open", "refused", label="require-ice",
                      caller_options=("--no-ice",), callee_options=("--require-ice",)))
    if shutil.which("baresip"):
        # The control: an ordinary phone must be seen to ghost-ring, or the judge is blind.
        cases.append(Case("symmetric", "symmetric", "ghost ring", "baresip", "baresip", label="control"))
    return cases


def turn_pairings(tls):
    """The same with a TURN server in both phones' settings: a relay where there is no direct path, and only there.
    `tls`: whether the program reaches it over TLS, too; without, a phone whose UDP is blocked has no path."""
    cases = []
    for case in pairings():
        if case.label:
            continue
        if case.expected == "no path" and (tls or not {case.caller, case.callee} & set(NO_UDP)):
            case.expected = "relayed"
        case.caller_options, case.callee_options = (turn_options(place, tls) for place in (case.caller, case.callee))
        if (case.caller, case.callee) == ("open", TCP_ONLY):
            # The caller signals by UDP, and its offer with a relay is too long for a passive candidate.
            case.expected = "relayed"
        case.label = f"turn {case.name}"
        cases.append(case)
    # One side's relay is enough; a relay can be asked for.
    both = Case("symmetric", "symmetric", "relayed")
    cases.append(dataclasses.replace(both, label="caller's relay", caller_options=("--turn", TURN)))
    cases.append(dataclasses.replace(both, label="callee's relay", callee_options=("--turn", TURN)))
    cases.append(Case("open", "open", "relayed", label="relay-only", caller_options=("--turn", TURN, "--relay-only")))
    return cases


def turn_options(place, tls):
    """A phone whose UDP is blocked knows the server by both ways, and cannot tell beforehand which one leads there."""
    over_tls = ("--turn", TURN_TLS, "--tls-ca", "../ca.pem") if tls and place in NO_UDP else ()
    return ("--turn", TURN, *over_tls)


SHORT = ["open:open", "port-restricted:port-restricted", "full-cone:symmetric", "symmetric:symmetric",
         f"{BEHIND_ONE}:port-restricted", "udp-blocked:open", "open:tcp-only", "tcp-only:tcp-only", "tcp-only:symmetric", "no-ice", "require-ice", "control",
         "turn symmetric:symmetric", "turn udp-blocked:port-restricted", "turn one-cgn:hairpin"]


def foreign_calls():
    """Today's phones call ringtrue and are held until the proof; ringtrue calls them."""
    cases = []
    for phone, kind in FOREIGN.items():
        if not kind.can_ice:
            cases.append(Case("open", "open", "unverified", phone, "ringtrue"))
            cases.append(Case("open", "open", "unverified", "ringtrue", phone))
            continue
        for nat in ("open", "address-restricted", "port-restricted"):
            cases.append(Case(nat, nat, "held", phone, "ringtrue"))
            cases.append(Case(nat, nat, "unverified", "ringtrue", phone))
        cases.append(Case("port-restricted", "symmetric", "no path", phone, "ringtrue"))
    for case in cases:
        case.label = f"{case.caller_phone} > {case.callee_phone} {case.caller}:{case.callee}"
    return cases


def aioice_calls():
    """PyPI's aioice and ringtrue, each calling the other, wherever two of ours connect."""
    cases = []
    for caller, callee in places.places():
        beyond_aioice = callee == places.HAIRPIN or caller == places.TWO_CGNS or places.TCP_ONLY in (caller, callee)
        if beyond_aioice or most_direct(caller, callee) == RELAYED:
            continue
        cases.append(Case(caller, callee, "held", "aioice", "ringtrue"))
        cases.append(Case(caller, callee, "held by callee", "ringtrue", "aioice"))
    for caller, callee in (("symmetric", "symmetric"), ("port-restricted", "symmetric"), ("symmetric", "port-restricted")):
        cases.append(Case(caller, callee, "no path", "aioice", "ringtrue"))
        cases.append(Case(caller, callee, "no path for the caller", "ringtrue", "aioice"))
    for case in cases:
        case.label = f"{case.caller_phone} > {case.callee_phone} {case.caller}:{case.callee}"
    return cases


def ordinary_calls():
    """The same pairings with today's phones on both sides: what Ringtrue is measured against."""
    return [Case(c.caller, c.callee, "ordinary", "baresip", "baresip") for c in pairings() if not c.label]


class Call:
    """Runs one case in namespaces of its own."""

    def __init__(self, internet, case, number, directory, binary):
        self.internet, self.case, self.binary = internet, case, binary
        self.tag = f"{number}"
        self.directory = directory / case.name.replace(" ", "_").replace(">", "to").replace(":", "_")
        self.directory.mkdir(parents=True)
        self.before = set()

    def run(self):
        alice_host, bob_host, namespaces = self._hosts()
        alice = self._phone(self.case.caller_phone, alice_host, "alice", ALICE_TONE)
        bob = self._phone(self.case.callee_phone, bob_host, "bob", BOB_TONE)
        capture = trace.Capture(bob_host, self.directory / "bob.pcap")
        try:
            outcome = self._talk(alice, bob)
        finally:
            alice.stop()
            bob.stop()
            capture.stop()
            self.internet.discard(namespaces)
        story = trace.callee_story(capture.path, bob_host.address, SERVERS)
        self._measure(outcome, alice, bob, story)
        self._judge(outcome, alice, bob, story)
        return outcome

    def _hosts(self):
        """The two hosts, and all namespaces that are to go with them."""
        alice, bob, names = places.build(self.internet, self.tag, self.case.caller, self.case.callee)
        names = {f"{self.internet.prefix}-{name}" for name in names}
        return alice, bob, [n for n in self.internet.namespaces if n.name in names]

    def _phone(self, name, host, user, tone):
        user += self.tag
        if name == "ringtrue":
            return Ringtrue(self.binary, host, self.directory, user, tone)
        return {**FOREIGN, "aioice": Aioice}[name](host, self.directory, user, tone)

    def _talk(self, alice, bob):
        outcome = Outcome()
        caller_tcp, callee_tcp = self.case.caller in NO_UDP, self.case.callee in NO_UDP
        if isinstance(bob, Ringtrue):
            registered = bob.listen(tcp=callee_tcp, more=self.case.callee_options)
        else:
            registered = bob.listen(tcp=callee_tcp)
        if not registered:
            raise LabError("the callee did not register")
        started = time.monotonic()
        if isinstance(alice, Ringtrue):
            # Foreign callees look for their path only after the answer, and take their time.
            talk = TALK if isinstance(bob, Ringtrue) else 2 * TALK
            alice.call(bob.user, talk, tcp=caller_tcp, more=self.case.caller_options)
            if not isinstance(bob, Ringtrue):
                bob.pick_up()
            alice_exit = alice.await_end(30)
            outcome.seconds = time.monotonic() - started
        else:
            alice.call(bob.user, tcp=caller_tcp)
            alice_exit = None
            self._await_foreign_caller(alice, bob)
            outcome.seconds = time.monotonic() - started
        bob_exit = bob.await_end(4) if isinstance(bob, Ringtrue) else None
        outcome.exits = (alice_exit, bob_exit)
        return outcome

    def _await_foreign_caller(self, alice, bob):
        """Lets it talk for a while once it was answered; SIPp hangs up by itself."""
        if isinstance(bob, Ringtrue):
            if bob.await_event("answered", 15) is None:
                return
        else:
            bob.pick_up()
            # Ordinary phones may need seconds to find their path after the answer.
            alice.await_output(alice.established, 8)
            time.sleep(3)
        time.sleep(TALK + 1)
        alice.hang_up()
        time.sleep(0.5)

    def _measure(self, outcome, alice, bob, story):
        outcome.a_to_b = bob.heard(ALICE_TONE)
        outcome.b_to_a = alice.heard(BOB_TONE)
        outcome.rang = story.ringing is not None or (isinstance(bob, Ringtrue) and bob.rang())
        if story.ringing is not None and story.invited is not None:
            outcome.ring_ms = (story.ringing - story.invited) * 1000
        for phone in (bob, alice):
            if isinstance(phone, Ringtrue):
                outcome.verified = phone.verified()
                break
        else:
            outcome.verified = not story.rang_before_proof if outcome.rang else None

    def _judge(self, outcome, alice, bob, story):
        getattr(self, "_judge_" + self.case.expected.replace(" ", "_"))(outcome, alice, bob, story)

    def _judge_connected(self, outcome, alice, bob, story):
        """A direct path exists: it is the one that is taken in the end, and the most direct of its kind."""
        # The proof may go through TLS, which cannot be read; there the phones' logs have to do.
        if TURN_TLS not in self.case.callee_options:
            outcome.expect(not story.rang_before_proof, "on the wire, the 180 came before the proof")
        self._judge_call(outcome, alice, bob)
        outcome.expect(not self._relayed(alice, bob), "relayed, though a direct path exists")
        outcome.expect(story.last_media == "direct", "on the wire, a relay carries the voice though a direct path exists")
        by = places.transport(self.case.caller, self.case.callee)
        outcome.expect(self._selected("transport", alice, bob) == {by}, f"what was selected does not go by {by}")
        if most_direct(self.case.caller, self.case.callee) == HOSTS:
            outcome.expect(self._types(alice, bob) == {"host"}, "not between the hosts' own addresses, though these lead there")

    def _judge_relayed(self, outcome, alice, bob, story):
        self._judge_call(outcome, alice, bob)
        outcome.expect(self._relayed(alice, bob), "the path is not a relayed one")
        # What goes through TLS cannot be read; there the phones' logs have to do.
        if self.case.callee not in NO_UDP:
            outcome.expect(not story.rang_before_proof, "on the wire, the 180 came before the proof")
            outcome.expect(story.media == story.relayed_media > 0, "on the wire, the voice does not go over a relay")

    @classmethod
    def _relayed(cls, alice, bob):
        """Whether either phone says that the path in the end was a relayed one."""
        return "relay" in cls._types(alice, bob)

    @classmethod
    def _types(cls, alice, bob):
        """The candidate types of the path that the phones say they selected last."""
        return cls._selected("local_type", alice, bob) | cls._selected("remote_type", alice, bob)

    @staticmethod
    def _selected(field, alice, bob):
        """What the phones say of the path that they selected last."""
        selected = [phone.events("path_selected")[-1:] for phone in (alice, bob)]
        return {path[field] for paths in selected for path in paths}

    def _judge_call(self, outcome, alice, bob):
        outcome.expect(outcome.exits == (0, 0), f"exit codes {outcome.exits}, expected 0 and 0")
        self._judge_proven_ring(outcome, bob)
        if self.internet.loss and not alice.rang():
            # A 180 is sent once; where packets are lost, the caller may never see it.
            outcome.expect(alice.order_of("path_validated", "answered"), "the caller has no proof before the answer")
        else:
            outcome.expect(alice.order_of("path_validated", "ringing", "answered"),
                           "the caller's log lacks path_validated, ringing, answered in this order")
            outcome.expect(alice.verified() is True, "the caller's ring was not verified")
        outcome.expect(outcome.both_heard, "not heard both ways")

    def _judge_held(self, outcome, alice, bob, story):
        """A foreign caller: the ring waits for the proof all the same."""
        outcome.expect(not story.rang_before_proof, "on the wire, the 180 came before the proof")
        self._judge_proven_ring(outcome, bob)
        outcome.expect(outcome.exits[1] == 0, f"the callee's exit code is {outcome.exits[1]}")
        outcome.expect(outcome.both_heard, "not heard both ways")

    def _judge_held_by_callee(self, outcome, alice, bob, story):
        """A foreign callee that rings when its checks are done: the caller knows by its own proof."""
        outcome.expect(alice.order_of("path_validated", "ringing", "answered"),
                       "the caller's log lacks path_validated, ringing, answered in this order")
        outcome.expect(alice.verified() is True, "the caller's ring was not verified")
        outcome.expect(outcome.exits[0] == 0, f"the caller's exit code is {outcome.exits[0]}")
        outcome.expect(outcome.both_heard, "not heard both ways")

    @staticmethod
    def _judge_proven_ring(outcome, bob):
        outcome.expect(outcome.rang, "the callee did not ring")
        outcome.expect(bob.verified() is True, "the callee's ring was not verified")
        outcome.expect(bob.order_of("path_validated", "ringing", "answered"),
                       "the callee's log lacks path_validated, ringing, answered in this order")

    def _judge_no_path(self, outcome, alice, bob, story):
        outcome.expect(not outcome.rang and story.answered is None, "the callee rang")
        outcome.expect(bob.first("missed") is not None, "the callee's log has no missed call")
        outcome.expect(outcome.exits[1] == 3, f"the callee's exit code is {outcome.exits[1]}, expected 3")
        if isinstance(alice, Ringtrue):
            outcome.expect(outcome.exits[0] == 3, f"the caller's exit code is {outcome.exits[0]}, expected 3")
            outcome.expect(alice.first("ended", status=480) is not None, "the caller did not end with 480")
            outcome.expect(outcome.seconds <= PATHLESS_LIMIT, f"took {outcome.seconds:.1f} s")

    def _judge_no_path_for_the_caller(self, outcome, alice, bob, story):
        """A foreign callee that waits for its checks: the caller gives up by itself."""
        outcome.expect(not outcome.rang and story.answered is None, "the callee rang")
        outcome.expect(alice.first("path_validated") is None, "the caller claims a path")
        outcome.expect(outcome.exits[0] == 3, f"the caller's exit code is {outcome.exits[0]}, expected 3")
        outcome.expect(outcome.seconds <= PATHLESS_LIMIT, f"took {outcome.seconds:.1f} s")

    def _judge_unverified(self, outcome, alice, bob, story):
        for phone in (alice, bob):
            if isinstance(phone, Ringtrue):
                outcome.expect(phone.verified() is False, f"{phone.user}: ringing is not marked verified:false")
        for status in outcome.exits:
            outcome.expect(status in (0, None), f"exit codes {outcome.exits}")
        outcome.expect(outcome.both_heard, "not heard both ways")

    def _judge_refused(self, outcome, alice, bob, story):
        outcome.expect(not outcome.rang, "the callee rang")
        outcome.expect(outcome.exits[0] == 4, f"the caller's exit code is {outcome.exits[0]}, expected 4")
        outcome.expect(alice.first("ended", status=421) is not None, "the caller was not told 421")

    def _judge_ghost_ring(self, outcome, alice, bob, story):
        outcome.expect(outcome.rang and story.rang_before_proof and not outcome.both_heard,
                       "the ghost ring of an ordinary phone was not seen")

    def _judge_ordinary(self, outcome, alice, bob, story):
        """Nothing is expected of them; the table tells."""
