"""The laboratory's Internet: network namespaces joined by veth pairs.

            198.51.100.2 kamailio      198.51.100.6 and .10 coturn
                        \\              /
                         [ internet ]  a router whose default route swallows packets
                        /              \\
          203.0.113.x (wan)        203.0.113.y (wan)
            [ router a ]             [ router b ]      nat/*.nft
           192.168.1.1 (lan)       192.168.2.1 (lan)
                 |                        |
           alice 192.168.1.10        bob 192.168.2.20

An `open` host has no router: it holds the public address itself. Neighbours
are static, since ARP would cost the first packet a round trip; offloads are
off, since they would merge datagrams that the phones sent apart.
"""

import os
import pathlib
import subprocess
import threading

NAT_KINDS = ["open", "full-cone", "address-restricted", "port-restricted", "symmetric", "tcp-only", "udp-blocked"]
RULES = pathlib.Path(__file__).parent / "nat"


class LabError(Exception):
    """A step of building the laboratory failed; the message says which."""


def tool(*command, text=None):
    """Runs a command to its end; its standard error becomes the exception's text."""
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Namespace:
    """One network namespace: a host or a router."""

    def __init__(self, name):
        self.name = name
        tool("ip", "netns", "add", name)
        self.address = None
        settings = ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1",
                    "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"]
        self.run("sysctl", "-q", "-w", *settings)
        self.ip("link set lo up")

    def run(self, *command, text=None):
        return tool("ip", "netns", "exec", self.name, *command, text=text)

    def ip(self, *lines):
        tool("ip", "-n", self.name, "-batch", "-", text="\n".join(lines) + "\n")

    def popen(self, command, **options):
        """Starts a process in here. `ip netns exec` becomes the command, so the id is its own."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], **options)

    def forward(self):
        self.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
                 "net.ipv4.conf.default.send_redirects=0")

    def remove(self):
        """Ends whatever still runs in here and takes the namespace away."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], text=True, capture_output=True)
        for process in listed.stdout.split():
            try:
                os.kill(int(process), 9)
            except ProcessLookupError:
                pass
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


class Wire:
    """A veth pair between two namespaces; each end knows the other's hardware address."""

    _count = 0
    _lock = threading.Lock()

    def __init__(self, left, left_device, right, right_device):
        with Wire._lock:
            Wire._count += 1
            number = Wire._count
        self.left, self.left_device = left, left_device
        self.right, self.right_device = right, right_device
        self.left_mac = f"02:00:00:{number >> 8:02x}:{number & 255:02x}:01"
        self.right_mac = f"02:00:00:{number >> 8:02x}:{number & 255:02x}:02"
        tool("ip", "link", "add", left_device, "netns", left.name, "address", self.left_mac, "type", "veth",
             "peer", "name", right_device, "netns", right.name, "address", self.right_mac)
        for namespace, device in ((left, left_device), (right, right_device)):
            namespace.run("ethtool", "-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
            namespace.ip(f"link set {device} up")


class Internet:
    """The router in the middle, and everything that hangs on it."""

    def __init__(self, prefix, loss=0.0):
        self.prefix = prefix
        self.loss = loss
        self.namespaces = []
        self._lock = threading.Lock()
        self._next_block = 0
        self.router = self.namespace("internet")
        self.router.forward()
        # Packets to nowhere vanish, as on the real Internet: no local error comes back.
        self.router.ip("route add blackhole default")
        if loss > 0:
            self._lose(loss)

    def _lose(self, percent):
        per_myriad = int(percent * 100)
        self.router.run("nft", "-f", "-", text=f"""
table ip loss {{
    chain forward {{
        type filter hook forward priority filter;
        meta l4proto udp numgen random mod 10000 < {per_myriad} drop
    }}
}}""")

    def namespace(self, name):
        namespace = Namespace(f"{self.prefix}-{name}")
        with self._lock:
            self.namespaces.append(namespace)
        return namespace

    def attach(self, namespace, device, address=None):
        """Connects a namespace by a /30 of its own and returns its public address."""
        with self._lock:
            block = self._next_block
            self._next_block += 1
        if address is None:
            # 64 blocks of 203.0.113.0/24 are too few for a whole run; 198.18.0.0/15 is the
            # benchmark range of RFC 2544.
            base = f"198.18.{block // 64}."
            last = block % 64 * 4
        else:
            base, last = address.rsplit(".", 1)[0] + ".", int(address.rsplit(".", 1)[1]) - 2
        gateway, own = f"{base}{last + 1}", f"{base}{last + 2}"
        wire = Wire(self.router, f"to{block}", namespace, device)
        self.router.ip(f"address add {gateway}/30 dev to{block}",
                       f"neighbor replace {own} lladdr {wire.right_mac} dev to{block} nud permanent")
        namespace.ip(f"address add {own}/30 dev {device}",
                     f"neighbor replace {gateway} lladdr {wire.left_mac} dev {device} nud permanent",
                     f"route add default via {gateway}" if namespace.address is None else "")
        if namespace.address is None:
            namespace.address = own
        return own

    def host(self, name, kind, lan="192.168.1", number=10, behind=None):
        """A host behind a NAT of this kind, or on the Internet itself when it is open. `behind` is the NAT in front
        of that one: (router, its LAN, a number there)."""
        host = self.namespace(name)
        if kind == "open":
            self.attach(host, "eth0")
        else:
            self.join(host, self.nat(name + "-nat", kind, lan, behind), lan, number)
        return host

    def nat(self, name, kind, lan, behind=None):
        """A router with an address outside on `wan` and a bridge `lan` for its hosts."""
        router = self.namespace(name)
        router.forward()
        if behind is None:
            self.attach(router, "wan")
        else:
            self.join(router, *behind, device="wan")
        # A bridge keeps an address that was given, and would otherwise take its ports' lowest.
        router.ip("link add lan address 02:00:00:ff:00:01 type bridge", f"address add {lan}.1/24 dev lan", "link set lan up")
        # What goes from LAN to LAN by way of the router shall be routed; where the kernel can filter bridges, a
        # translated packet would else be bridged past the other rules.
        router.run("sysctl", "-q", "-e", "-w", "net.bridge.bridge-nf-call-iptables=0")
        router.run("nft", "-f", str(RULES / "common.nft"))
        router.run("nft", "-f", str(RULES / f"{kind}.nft"))
        if kind == "hairpin":
            router.run("nft", "add", "rule", "ip", "nat", "postrouting",
                       f'oifname "lan" ip saddr {lan}.0/24 ct status dnat snat to {router.address}')
        return router

    def join(self, host, router, lan, number, device="eth0", isolated=False):
        """Plugs a host into a router's LAN; isolated ones reach the router and not each other."""
        own = f"{lan}.{number}"
        wire = Wire(router, f"lan{number}", host, device)
        router.ip(f"link set lan{number} master lan")
        if isolated:
            router.ip(f"link set lan{number} type bridge_slave isolated on")
        router.ip(f"neighbor replace {own} lladdr {wire.right_mac} dev lan nud permanent")
        host.ip(f"address add {own}/24 dev {device}",
                f"neighbor replace {lan}.1 lladdr 02:00:00:ff:00:01 dev {device} nud permanent",
                f"route add default via {lan}.1")
        host.address = own

    def discard(self, namespaces):
        """Takes some namespaces away before the end of the run."""
        for namespace in namespaces:
            with self._lock:
                if namespace in self.namespaces:
                    self.namespaces.remove(namespace)
            namespace.remove()

    def remove(self):
        self.discard(list(self.namespaces))
