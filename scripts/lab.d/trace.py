"""Reads a phone's own packets back from a capture and judges them.

Independent of the phone's word: the first 180 must come after an answered
check of its own and after a check by the peer.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import struct
import subprocess

STUN_REQUEST, STUN_SUCCESS, STUN_COOKIE = 0x0001, 0x0101, 0x2112A442
TCP, UDP = 6, 17


class Capture:
    """tcpdump in a namespace, writing to a file."""

    def __init__(self, namespace, path):
        self.path = path
        self.process = namespace.popen(
            ["tcpdump", "-i", "eth0", "-U", "--immediate-mode", "-Z", "root", "-s", "2000", "-w", str(path), "ip"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        # It is ready when it says so.
        self.process.stderr.readline()

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stderr.close()


@dataclasses.dataclass
class Packet:
    time: float
    protocol: int
    source: str
    destination: str
    payload: bytes


def packets(path):
    """Every UDP and TCP payload of a capture of an Ethernet device."""
    data = pathlib.Path(path).read_bytes() if pathlib.Path(path).exists() else b""
    at = 24
    while at + 16 <= len(data):
        seconds, micros, stored, _ = struct.unpack_from("<IIII", data, at)
        frame = data[at + 16:at + 16 + stored]
        at += 16 + stored
        if len(frame) < 42 or frame[12:14] != b"\x08\x00":
            continue
        ip = frame[14:]
        fragment = struct.unpack_from("!H", ip, 6)[0] & 0x1FFF
        if fragment or ip[9] not in (TCP, UDP):
            continue
        segment = ip[(ip[0] & 15) * 4:struct.unpack_from("!H", ip, 2)[0]]
        if len(segment) < 8:
            continue
        source, destination = struct.unpack_from("!HH", segment)
        header = 8 if ip[9] == UDP else (segment[12] >> 4) * 4
        yield Packet(seconds + micros / 1e6, ip[9], f"{'.'.join(map(str, ip[12:16]))}:{source}",
                     f"{'.'.join(map(str, ip[16:20]))}:{destination}", segment[header:])


@dataclasses.dataclass
class Story:
    """When things happened at the callee, in seconds since the epoch."""

    invited: float | None = None
    ringing: float | None = None       # the first 180 it sent
    answered: float | None = None      # the first 200 to the INVITE it sent
    own_check: float | None = None     # an own Binding request was answered by the peer
    peer_check: float | None = None    # a Binding request of the peer arrived

    @property
    def proof(self):
        if self.own_check is None or self.peer_check is None:
            return None
        return max(self.own_check, self.peer_check)

    @property
    def rang_before_proof(self):
        """Also true when it was answered without ringing and without a proof."""
        alerted = min((t for t in (self.ringing, self.answered) if t is not None), default=None)
        return alerted is not None and (self.proof is None or alerted < self.proof)


def callee_story(path, own_address, servers):
    """What a capture on the callee's device tells. Packets of the STUN servers prove nothing."""
    story = Story()
    asked = set()
    for packet in packets(path):
        sent = packet.source.startswith(own_address + ":")
        payload = packet.payload
        other = (packet.destination if sent else packet.source).rsplit(":", 1)[0]
        if not sent and re.match(rb"INVITE ", payload) and story.invited is None:
            story.invited = packet.time
        if sent and b"SIP/2.0 180" in payload and story.ringing is None:
            story.ringing = packet.time
        if (sent and b"SIP/2.0 200" in payload and re.search(rb"CSeq: *\d+ +INVITE", payload, re.I)
                and story.answered is None):
            story.answered = packet.time
        if packet.protocol != UDP or len(payload) < 20 or other in servers:
            continue
        kind, _, cookie = struct.unpack_from("!HHI", payload)
        if cookie != STUN_COOKIE:
            continue
        transaction = payload[8:20]
        if kind == STUN_REQUEST and sent:
            asked.add(transaction)
        elif kind == STUN_REQUEST and story.peer_check is None:
            story.peer_check = packet.time
        elif kind == STUN_SUCCESS and not sent and transaction in asked and story.own_check is None:
            story.own_check = packet.time
    return story
