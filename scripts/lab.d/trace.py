"""Reads a phone's own packets back from a capture and judges them.

Independent of the phone's word: the first 180 must come after an answered
check of its own and after a check by the peer. Checks over a relay count as
well: turn.py takes them out of their TURN messages.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import struct
import subprocess

import turn

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
    sequence: int = 0                  # of TCP: the number of the payload's first byte


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
        source, destination, sequence = struct.unpack_from("!HHI", segment)
        header = 8 if ip[9] == UDP else (segment[12] >> 4) * 4
        yield Packet(seconds + micros / 1e6, ip[9], f"{'.'.join(map(str, ip[12:16]))}:{source}",
                     f"{'.'.join(map(str, ip[16:20]))}:{destination}", segment[header:], sequence)


@dataclasses.dataclass
class Story:
    """When things happened at the callee, in seconds since the epoch."""

    invited: float | None = None
    ringing: float | None = None       # the first 180 it sent
    answered: float | None = None      # the first 200 to the INVITE it sent
    own_check: float | None = None     # an own Binding request was answered by the peer
    peer_check: float | None = None    # a Binding request of the peer arrived
    media: int = 0                     # RTP packets that left or came
    relayed_media: int = 0             # those of them that a relay carried
    last_media: str | None = None      # how the last one went: "direct" or "relayed"

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
    """What a capture on the callee's device tells."""
    return story_of(packets(path), own_address, servers)


def story_of(captured, own_address, servers):
    """What packets tell of the callee. `servers` are the hosts of the STUN and TURN servers: what they say
    themselves proves nothing, what they relay counts as its sender's."""
    story = Story()
    asked = set()
    unwrap = turn.Unwrapper(servers)
    for packet in captured:
        sent = packet.source.startswith(own_address + ":")
        _read_sip(story, packet, sent)
        for peer, relayed, payload in unwrap(packet, sent, packet.protocol == TCP):
            if turn.is_server(peer, servers):
                continue
            if turn.is_rtp(payload):
                # The peer's relay shows itself by its address.
                relayed = relayed or peer.rsplit(":", 1)[0] in servers
                story.media += 1
                story.relayed_media += relayed
                story.last_media = "relayed" if relayed else "direct"
            _read_check(story, asked, packet.time, sent, payload)
    return story


def _read_sip(story, packet, sent):
    payload = packet.payload
    if not sent and re.match(rb"INVITE ", payload) and story.invited is None:
        story.invited = packet.time
    if sent and b"SIP/2.0 180" in payload and story.ringing is None:
        story.ringing = packet.time
    if (sent and b"SIP/2.0 200" in payload and re.search(rb"CSeq: *\d+ +INVITE", payload, re.I)
            and story.answered is None):
        story.answered = packet.time


def _read_check(story, asked, at, sent, payload):
    message = turn.stun_message(payload)
    if message is None:
        return
    kind, transaction, _ = message
    if kind == turn.BINDING_REQUEST and sent:
        asked.add(transaction)
    elif kind == turn.BINDING_REQUEST and story.peer_check is None:
        story.peer_check = at
    elif kind == turn.BINDING_SUCCESS and not sent and transaction in asked and story.own_check is None:
        story.own_check = at
