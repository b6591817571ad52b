"""Where the two phones of a call are, and the most direct way that exists between them.

    apart            alice [nat a] internet [nat b] bob       or one of them, or both, open
    behind-one       alice, bob on one LAN [nat]
    isolated         the same, but the LAN does not let them talk to each other
    one-cgn          alice [home] \\
                                   [carrier's nat] internet
                     bob   [home] /
    two-cgns         alice [home] [carrier's nat] internet [carrier's nat] [home] bob

Which way exists follows from RFC 4787 alone; the phones are not asked.
"""

import itertools

from network import NAT_KINDS

BEHIND_ONE, ISOLATED, ONE_CGN, TWO_CGNS = "behind-one", "isolated", "one-cgn", "two-cgns"
HAIRPIN = "hairpin"
HOME = "port-restricted"
BLOCKED = "udp-blocked"
TCP_ONLY = "tcp-only"
NO_UDP = (BLOCKED, TCP_ONLY)
# How direct a path is: both ends are the hosts' own addresses; through NATs; over a relay.
HOSTS, REFLEXIVE, RELAYED = "hosts", "reflexive", "relayed"


def places():
    """Every (caller, callee)."""
    found = list(itertools.product(NAT_KINDS, repeat=2))
    natted = [kind for kind in NAT_KINDS if kind != "open" and kind not in NO_UDP]
    found += [(BEHIND_ONE, kind) for kind in natted + [HAIRPIN]]
    found += [(ISOLATED, kind) for kind in ("full-cone", "symmetric", HAIRPIN)]
    found += [(ONE_CGN, kind) for kind in ("full-cone", HAIRPIN)]
    found += [(TWO_CGNS, kind) for kind in ("full-cone", "port-restricted", "symmetric")]
    return found


def most_direct(caller, callee):
    """The most direct kind of path between two places: HOSTS, REFLEXIVE, or RELAYED where nothing else leads."""
    if caller == BEHIND_ONE:
        return HOSTS
    if caller in (ISOLATED, ONE_CGN):
        # They know each other by the address outside, and that leads back in by hairpinning only (RFC 4787 section 6).
        return REFLEXIVE if callee == HAIRPIN else RELAYED
    if caller == TWO_CGNS:
        # Of two NATs in a row the stricter behaviour counts, and HOME is port-restricted.
        return RELAYED if callee == "symmetric" else REFLEXIVE
    kinds = {caller, callee}
    if TCP_ONLY in kinds:
        # Of TCP, every NAT here lets in what was sent to; but a symmetric one maps anew for the other side.
        return RELAYED if kinds & {BLOCKED, "symmetric"} else REFLEXIVE
    if BLOCKED in kinds or kinds in ({"symmetric"}, {"symmetric", "port-restricted"}):
        return RELAYED
    return HOSTS if kinds == {"open"} else REFLEXIVE


def transport(caller, callee):
    """What carries the voice of a direct path."""
    return "tcp" if TCP_ONLY in (caller, callee) else "udp"


def build(internet, tag, caller, callee):
    """Makes both hosts: (alice, bob, the names of all namespaces that were made)."""
    a, b = tag + "a", tag + "b"
    if caller in (BEHIND_ONE, ISOLATED):
        router = internet.nat(a + "-nat", callee, "192.168.1")
        alice, bob = internet.namespace(a), internet.namespace(b)
        isolated = caller == ISOLATED
        internet.join(alice, router, "192.168.1", 10, isolated=isolated)
        internet.join(bob, router, "192.168.1", 20, isolated=isolated)
    elif caller in (ONE_CGN, TWO_CGNS):
        # The shared address space of RFC 6598.
        carrier_a = internet.nat(a + "-cgn", callee, "100.64.0")
        carrier_b = carrier_a if caller == ONE_CGN else internet.nat(b + "-cgn", callee, "100.64.0")
        alice = internet.host(a, HOME, "192.168.1", 10, behind=(carrier_a, "100.64.0", 30))
        bob = internet.host(b, HOME, "192.168.2", 20, behind=(carrier_b, "100.64.0", 40))
    else:
        alice = internet.host(a, caller)
        bob = internet.host(b, callee, lan="192.168.2", number=20)
    return alice, bob, [name + suffix for name in (a, b) for suffix in ("", "-nat", "-cgn")]
