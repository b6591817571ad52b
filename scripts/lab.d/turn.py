"""Takes what TURN carries out of its messages (RFC 8656): Send and Data
indications and ChannelData, over UDP and over plain TCP. What TURN over TLS
carries cannot be read. What phones say to each other by TCP is framed by its
length (RFC 4571).
"""

from __future__ import annotations

import socket
import struct

COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_SUCCESS = 0x0001, 0x0101
SEND, DATA_INDICATION = 0x0016, 0x0017
CHANNEL_BIND = 0x0009
CHANNEL_NUMBER, XOR_PEER_ADDRESS, DATA = 0x000C, 0x0012, 0x0013
# Ports that the servers of the laboratory listen on; relays have others.
LISTENING = {80, 443, 3478, 3479, 5060, 5349, 5350}
# A stream that goes on like this is no TURN.
LONGEST_MESSAGE = 65_535


def is_server(address, servers):
    """Whether "host:port" is a server itself, not a relay that it lends."""
    host, port = address.rsplit(":", 1)
    return host in servers and int(port) in LISTENING


def stun_message(payload):
    """(type, transaction, {attribute: value}) of a STUN message, or None."""
    if len(payload) < 20 or payload[0] & 0xC0:
        return None
    kind, length, cookie = struct.unpack_from("!HHI", payload)
    if cookie != COOKIE or length % 4 or length + 20 > len(payload):
        return None
    attributes = {}
    at = 20
    while at + 4 <= length + 20:
        name, size = struct.unpack_from("!HH", payload, at)
        attributes.setdefault(name, payload[at + 4:at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    return kind, payload[8:20], attributes


def is_rtp(payload):
    """RTP, and neither RTCP (RFC 5761 section 4) nor anything else."""
    return len(payload) >= 12 and payload[0] & 0xC0 == 0x80 and not 192 <= payload[1] <= 223


def peer_address(value):
    """ "host:port" of an XOR-PEER-ADDRESS of IPv4, or None."""
    if value is None or len(value) != 8 or value[1] != 1:
        return None
    port, ip = struct.unpack_from("!HI", value, 2)
    return f"{socket.inet_ntoa(struct.pack('!I', ip ^ COOKIE))}:{port ^ COOKIE >> 16}"


class Stream:
    """The bytes of one direction of a TCP connection, cut into STUN messages and ChannelData."""

    def __init__(self):
        self.next = None
        self.bytes = b""
        self.later = {}

    def feed(self, sequence, payload):
        """Takes a segment and gives the messages that are whole by now."""
        if payload:
            if self.next is None:
                self.next = sequence
            self.later.setdefault(sequence, payload)
        while self.next in self.later:
            segment = self.later.pop(self.next)
            self.bytes += segment
            self.next = (self.next + len(segment)) & 0xFFFFFFFF
        while (size := self._size()) is not None and len(self.bytes) >= size:
            yield self.bytes[:size]
            self.bytes = self.bytes[size:]

    def _size(self):
        if len(self.bytes) < 4:
            return None
        kind, length = struct.unpack_from("!HH", self.bytes)
        # RFC 8656 section 12.5: over TCP, ChannelData is padded.
        return 20 + length if kind < 0x4000 else 4 + (length + 3) // 4 * 4


class FramedStream(Stream):
    """The same of a connection between two phones."""

    def feed(self, sequence, payload):
        for packet in super().feed(sequence, payload):
            yield packet[2:]

    def _size(self):
        return 2 + struct.unpack_from("!H", self.bytes)[0] if len(self.bytes) >= 2 else None


class Unwrapper:
    """Gives the packets as the phone means them: whom they are for or from, without the TURN around them."""

    def __init__(self, servers):
        self.servers = servers
        self.channels = {}
        self.streams = {}

    def __call__(self, packet, sent, is_tcp):
        """Yields ("host:port" of the other side, whether a relay of the phone's own carried it, payload)."""
        other = packet.destination if sent else packet.source
        if not is_server(other, self.servers):
            for payload in self._messages(packet, is_tcp, FramedStream):
                yield other, False, payload
            return
        for message in self._messages(packet, is_tcp, Stream):
            yield self._unwrapped(message, sent, (packet.source if sent else packet.destination, other))

    def _messages(self, packet, is_tcp, kind):
        if not is_tcp:
            return [packet.payload]
        stream = self.streams.setdefault((packet.source, packet.destination), kind())
        return stream.feed(packet.sequence, packet.payload)

    def _unwrapped(self, message, sent, flow):
        """What one message to or from a server carries; the message itself when it carries nothing."""
        plain = flow[1], False, message
        if len(message) >= 4 and 0x40 <= message[0] <= 0x4F:
            number, length = struct.unpack_from("!HH", message)
            peer = self.channels.get((flow, number))
            return plain if peer is None else (peer, True, message[4:4 + length])
        stun = stun_message(message)
        if stun is None:
            return plain
        kind, _, attributes = stun
        peer = peer_address(attributes.get(XOR_PEER_ADDRESS))
        if peer is None:
            return plain
        if kind == CHANNEL_BIND and sent and len(attributes.get(CHANNEL_NUMBER, b"")) == 4:
            self.channels[flow, struct.unpack_from("!H", attributes[CHANNEL_NUMBER])[0]] = peer
        if kind == (SEND if sent else DATA_INDICATION) and DATA in attributes:
            return peer, True, attributes[DATA]
        return plain
