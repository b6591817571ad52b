"""Ports that a router maps: a call between two symmetric NATs, which has no direct path, with a real
miniupnpd on the callee's router. One call for each protocol, and one without any.

    alice ── symmetric NAT ── internet ── symmetric NAT with miniupnpd ── bob
"""

import signal
import subprocess
import time

from network import LabError
from phones import Ringtrue, end
from servers import Servers

TALK = 4
ALICE_TONE, BOB_TONE = 880, 440
LAN = "192.168.2"
BOB = f"{LAN}.20"
# miniupnpd maps no ports on addresses that are reserved for documentation or benchmarks, as all others
# of the laboratory are. This one leads nowhere but into these namespaces.
WAN = "192.1.2.2"

# The chains that miniupnpd fills; its source ports come before those of the router's masquerading.
CHAINS = """
table inet filter {
    chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority -100; policy accept; jump prerouting_miniupnpd; }
    chain prerouting_miniupnpd { }
    chain postrouting { type nat hook postrouting priority 99; policy accept; jump postrouting_miniupnpd; }
    chain postrouting_miniupnpd { }
}
"""
# PCP's version is 2 (RFC 6887), NAT-PMP's is 0: a router of before 2013.
NO_PCP = 'insert rule ip firewall input iifname "lan" udp dport 5351 @th,64,8 2 drop'

# What miniupnpd's log says of a mapping, by protocol.
LOGGED = {"pcp": "PCP MAP: added mapping", "nat-pmp": "NAT-PMP port mapping request", "upnp": "AddPortMapping: ext port"}
CASES = {
    "without": {},
    "pcp": {"pcp": "yes", "upnp": "no", "by": "pcp"},
    "nat-pmp": {"pcp": "yes", "upnp": "no", "by": "nat-pmp", "rules": NO_PCP},
    "upnp": {"pcp": "no", "upnp": "yes", "by": "upnp"},
    "all": {"pcp": "yes", "upnp": "yes", "by": "pcp"},
}


class Router:
    """Bob's router, and the miniupnpd on it."""

    def __init__(self, internet, case, directory):
        self.namespace = internet.namespace("bob-nat")
        self.namespace.forward()
        internet.attach(self.namespace, "wan", WAN)
        self.namespace.ip("link add lan address 02:00:00:ff:00:01 type bridge", f"address add {LAN}.1/24 dev lan",
                          "link set lan up")
        for rules in ("common", "symmetric"):
            self.namespace.run("nft", "-f", f"scripts/lab.d/nat/{rules}.nft")
        self.daemon = None
        if not case:
            return
        self.namespace.run("nft", "-f", "-", text=CHAINS + case.get("rules", "") + "\n")
        config = directory / "miniupnpd.conf"
        config.write_text("\n".join([
            "ext_ifname=wan", "listening_ip=lan", f"enable_natpmp={case['pcp']}", f"enable_upnp={case['upnp']}",
            "ipv6_disable=yes", "secure_mode=yes", "system_uptime=yes", "uuid=00000000-0000-4000-8000-000000000001",
            "upnp_table_name=filter", "upnp_nat_table_name=filter", "min_lifetime=120", "max_lifetime=86400",
            f"allow 1024-65535 {LAN}.0/24 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535", ""]))
        self.log = directory / "miniupnpd.log"
        with open(self.log, "wb") as log:
            self.daemon = self.namespace.popen(["miniupnpd", "-d", "-f", str(config), "-P", str(directory / "miniupnpd.pid")],
                                               stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        time.sleep(1)
        if self.daemon.poll() is not None:
            raise LabError(f"miniupnpd does not run; see {directory}/miniupnpd.log")

    def mapped(self):
        """The ports that lead to bob."""
        rules = self.namespace.run("nft", "list", "ruleset")
        return [line.strip() for line in rules.splitlines() if "dnat" in line and BOB in line]

    def protocols(self):
        """By which protocols ports were asked for."""
        log = self.log.read_text(errors="replace") if self.daemon else ""
        return [protocol for protocol, line in LOGGED.items() if line in log]

    def stop(self):
        if self.daemon is not None:
            end(self.daemon)


def call(internet, directory, program, name):
    """One call; what was wrong with it."""
    case = CASES[name]
    directory.mkdir()
    alice_host = internet.host("alice", "symmetric")
    router = Router(internet, case, directory)
    bob_host = internet.namespace("bob")
    internet.join(bob_host, router.namespace, LAN, 20)
    alice = Ringtrue(program, alice_host, directory, "alice", ALICE_TONE)
    bob = Ringtrue(program, bob_host, directory, "bob", BOB_TONE)
    wrong = []

    def expect(what, holds):
        if not holds:
            wrong.append(what)

    try:
        if not bob.listen(more=["-v", "-v"]):
            raise LabError("the callee did not register")
        time.sleep(3)
        waiting = len(router.mapped())
        expect(f"{waiting} ports are mapped while bob waits", waiting >= 2 if case else waiting == 0)
        alice.call("bob", TALK)
        status = alice.await_end(30)
        bob_status = bob.await_end(10)
        path = alice.first("path_selected")
        heard = (bob.heard(ALICE_TONE), alice.heard(BOB_TONE))
        seconds = [measured.total if measured else 0 for measured in heard]
        if case:
            expect(f"exits {status}/{bob_status}", (status, bob_status) == (0, 0))
            expect(f"heard {seconds}", min(seconds) > TALK - 1)
            expect(f"the path is {path}", path and path["remote"].startswith(WAN + ":")
                   and "relay" not in (path["local_type"], path["remote_type"]))
        else:
            expect(f"exits {status}/{bob_status}, 3 was expected", (status, bob_status) == (3, 3))
            expect("it rang without a path", not bob.rang())
        expect(f"left behind: {router.mapped()}", not router.mapped())
        ring = bob.first("ringing")
        rang = f"rang after {ring['t_ms'] - bob.first('invite')['t_ms']:.0f} ms" if ring and bob.first("invite") else ""
        expect(f"mapped by {router.protocols()}", router.protocols() == ([case["by"]] if case else []))
        # Interrupted while it waits, with its pool's ports mapped.
        if case:
            bob.listen()
            time.sleep(2)
            expect("no port is mapped for the second pool", len(router.mapped()) >= 2)
            begun = time.monotonic()
            bob.process.send_signal(signal.SIGINT)
            expect("it does not end", bob.await_end(10) is not None)
            took = time.monotonic() - begun
            expect(f"it took {took:.1f} s to end", took < 3)
            expect(f"left behind by SIGINT: {router.mapped()}", not router.mapped())
        print(f"{name:8} ports while waiting: {waiting}; exits {status}/{bob_status}; heard "
              f"{seconds[0]:.1f}/{seconds[1]:.1f} s; {rang} {'; '.join(wrong) or 'ok'}", flush=True)
    finally:
        alice.stop()
        bob.stop()
        router.stop()
        names = {f"{internet.prefix}-{name}" for name in ("alice", "alice-nat", "bob", "bob-nat")}
        internet.discard([namespace for namespace in internet.namespaces if namespace.name in names])
    return wrong


def run(internet, directory, program, wanted):
    """All cases, or those named; the number that failed."""
    unknown = [name for name in wanted if name not in CASES]
    if unknown:
        raise LabError(f"no case is called {unknown[0]}; there are: {', '.join(CASES)}")
    servers = Servers(internet, directory)
    try:
        return sum(bool(call(internet, directory / name, program, name)) for name in wanted or CASES)
    finally:
        servers.stop()
