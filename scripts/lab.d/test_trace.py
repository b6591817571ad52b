#!/usr/bin/env python3
"""The judge of scripts/lab, judged: synthetic captures of a callee. `scripts/test` and every run of
the laboratory start with it; it needs no root and no packet capture.

      bob 192.168.2.20 ---- [ NAT ] ---- 198.51.100.6 TURN ---- 198.18.0.2 alice
"""

import pathlib
import struct
import tempfile
import unittest

import trace
import turn
from trace import TCP, UDP, Packet

BOB, ALICE, PROXY, TURN = "192.168.2.20:40000", "198.18.0.2:5000", "198.51.100.2:5060", "198.51.100.6:3478"
ALICES_RELAY = "198.51.100.6:50001"
SERVERS = {"198.51.100.2", "198.51.100.6"}
RTP = b"\x80\x00" + bytes(10)


def stun(kind, transaction=1, *attributes):
    body = b"".join(struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4) for name, value in attributes)
    return struct.pack("!HHI", kind, len(body), turn.COOKIE) + struct.pack("!QI", 0, transaction) + body


def peer(address):
    host, port = address.split(":")
    ip = struct.unpack("!I", bytes(map(int, host.split("."))))[0]
    return turn.XOR_PEER_ADDRESS, struct.pack("!BBHI", 0, 1, int(port) ^ turn.COOKIE >> 16, ip ^ turn.COOKIE)


def send(payload, to=ALICE):
    return stun(turn.SEND, 99, peer(to), (turn.DATA, payload))


def data(payload, source=ALICE):
    return stun(turn.DATA_INDICATION, 98, (turn.DATA, payload), peer(source))


def bind(number, to=ALICE):
    return stun(turn.CHANNEL_BIND, 97, (turn.CHANNEL_NUMBER, struct.pack("!HH", number, 0)), peer(to))


def channel(number, payload):
    return struct.pack("!HH", number, len(payload)) + payload


def told(*steps, protocol=UDP):
    """The story of (source, destination, payload), a second apart, with the INVITE before and the 180 where
    a step is "ring"."""
    packets = [Packet(0.0, UDP, PROXY, BOB, b"INVITE sip:bob@198.51.100.2 SIP/2.0\r\n\r\n")]
    sequences = {}
    for second, step in enumerate(steps, 1):
        if step == "ring":
            packets.append(Packet(float(second), UDP, BOB, PROXY, b"SIP/2.0 180 Ringing\r\nCSeq: 1 INVITE\r\n\r\n"))
            continue
        source, destination, payload = step
        at = sequences.get(source, 2**32 - 7)
        sequences[source] = (at + len(payload)) % 2**32
        packets.append(Packet(float(second), protocol, source, destination, payload, at))
    return trace.story_of(packets, "192.168.2.20", SERVERS)


REQUEST, SUCCESS = stun(turn.BINDING_REQUEST, 7), stun(turn.BINDING_SUCCESS, 7)
PEERS_CHECK = stun(turn.BINDING_REQUEST, 8)


class Direct(unittest.TestCase):
    def test_proof_and_then_the_ring(self):
        story = told((BOB, ALICE, REQUEST), (ALICE, BOB, SUCCESS), (ALICE, BOB, PEERS_CHECK), "ring")
        self.assertEqual((story.own_check, story.peer_check, story.ringing), (2.0, 3.0, 4.0))
        self.assertFalse(story.rang_before_proof)

    def test_one_direction_is_no_proof(self):
        self.assertTrue(told((BOB, ALICE, REQUEST), (ALICE, BOB, SUCCESS), "ring").rang_before_proof)
        self.assertTrue(told((ALICE, BOB, PEERS_CHECK), "ring").rang_before_proof)

    def test_a_ring_before_the_last_part_of_the_proof(self):
        story = told((BOB, ALICE, REQUEST), (ALICE, BOB, SUCCESS), "ring", (ALICE, BOB, PEERS_CHECK))
        self.assertTrue(story.rang_before_proof)

    def test_an_answer_that_was_not_asked_for_is_none(self):
        strange = stun(turn.BINDING_SUCCESS, 55)
        self.assertTrue(told((BOB, ALICE, REQUEST), (ALICE, BOB, strange), (ALICE, BOB, PEERS_CHECK), "ring")
                        .rang_before_proof)

    def test_servers_prove_nothing(self):
        story = told((BOB, TURN, REQUEST), (TURN, BOB, SUCCESS), (TURN, BOB, PEERS_CHECK), "ring")
        self.assertTrue(story.rang_before_proof)

    def test_nobody_rang(self):
        self.assertFalse(told((BOB, ALICE, REQUEST)).rang_before_proof)


class ByTcp(unittest.TestCase):
    def test_frames_in_pieces(self):
        def framed(*packets):
            return b"".join(struct.pack("!H", len(packet)) + packet for packet in packets)

        back = framed(SUCCESS, PEERS_CHECK, RTP)
        story = told((BOB, ALICE, framed(REQUEST)), (ALICE, BOB, back[:1]), (ALICE, BOB, back[1:30]), (ALICE, BOB, back[30:]),
                     "ring", (BOB, ALICE, framed(RTP, RTP)), protocol=TCP)
        self.assertEqual((story.own_check, story.peer_check), (3.0, 4.0))
        self.assertFalse(story.rang_before_proof)
        self.assertEqual((story.media, story.relayed_media, story.last_media), (3, 0, "direct"))


class OverOwnRelay(unittest.TestCase):
    def test_indications_both_ways(self):
        story = told((BOB, TURN, send(REQUEST)), (TURN, BOB, data(SUCCESS)), (TURN, BOB, data(PEERS_CHECK)), "ring")
        self.assertEqual((story.own_check, story.peer_check), (2.0, 3.0))
        self.assertFalse(story.rang_before_proof)

    def test_channel_data(self):
        story = told((BOB, TURN, bind(0x4001)), (BOB, TURN, channel(0x4001, REQUEST)),
                     (TURN, BOB, channel(0x4001, SUCCESS)), (TURN, BOB, channel(0x4001, PEERS_CHECK)), "ring")
        self.assertFalse(story.rang_before_proof)

    def test_a_channel_that_nobody_bound_carries_nothing(self):
        story = told((BOB, TURN, channel(0x4001, REQUEST)), (TURN, BOB, channel(0x4001, SUCCESS)),
                     (TURN, BOB, channel(0x4001, PEERS_CHECK)), "ring")
        self.assertTrue(story.rang_before_proof)

    def test_a_ring_before_the_relayed_proof_is_seen(self):
        story = told((BOB, TURN, send(REQUEST)), "ring", (TURN, BOB, data(SUCCESS)), (TURN, BOB, data(PEERS_CHECK)))
        self.assertTrue(story.rang_before_proof)

    def test_the_relay_first_and_the_direct_pair_later(self):
        story = told((BOB, TURN, send(REQUEST)), (TURN, BOB, data(SUCCESS)), (TURN, BOB, data(PEERS_CHECK)), "ring",
                     (BOB, ALICE, stun(turn.BINDING_REQUEST, 9)), (ALICE, BOB, stun(turn.BINDING_SUCCESS, 9)))
        self.assertFalse(story.rang_before_proof)

    def test_indications_of_the_wrong_direction_carry_nothing(self):
        story = told((BOB, TURN, data(REQUEST)), (TURN, BOB, send(SUCCESS)), (TURN, BOB, send(PEERS_CHECK)), "ring")
        self.assertTrue(story.rang_before_proof)

    def test_a_server_behind_the_relay_proves_nothing(self):
        story = told((BOB, TURN, send(REQUEST, TURN)), (TURN, BOB, data(SUCCESS, TURN)),
                     (TURN, BOB, data(PEERS_CHECK, TURN)), "ring")
        self.assertTrue(story.rang_before_proof)

    def test_relay_to_relay(self):
        story = told((BOB, TURN, send(REQUEST, ALICES_RELAY)), (TURN, BOB, data(SUCCESS, ALICES_RELAY)),
                     (TURN, BOB, data(PEERS_CHECK, ALICES_RELAY)), "ring")
        self.assertFalse(story.rang_before_proof)

    def test_over_tcp_in_pieces_with_a_piece_sent_twice(self):
        out, back = send(REQUEST), data(SUCCESS) + data(PEERS_CHECK) + channel(0x4001, RTP + b"x") + bytes(3)
        steps = [(BOB, TURN, bind(0x4001) + out[:30]), (BOB, TURN, out[30:]), (TURN, BOB, back[:50]),
                 (TURN, BOB, back[50:]), "ring"]
        story = told(*steps, protocol=TCP)
        self.assertFalse(story.rang_before_proof)
        self.assertEqual((story.media, story.relayed_media), (1, 1))

    def test_a_segment_out_of_order(self):
        stream = turn.Stream()
        whole = send(REQUEST)
        self.assertEqual(list(stream.feed(100, whole[:10])), [])
        self.assertEqual(list(stream.feed(130, whole[30:])), [])
        self.assertEqual(list(stream.feed(100, whole[:10])), [])
        self.assertEqual(list(stream.feed(110, whole[10:30])), [whole])

    def test_sip_over_tcp(self):
        packets = [Packet(0.0, TCP, PROXY, BOB, b"INVITE sip:bob@a SIP/2.0\r\n\r\n"),
                   Packet(1.0, TCP, BOB, PROXY, b"SIP/2.0 180 Ringing\r\nCSeq: 1 INVITE\r\n\r\n")]
        self.assertTrue(trace.story_of(packets, "192.168.2.20", SERVERS).rang_before_proof)


class OverThePeersRelay(unittest.TestCase):
    def test_its_address_is_no_server(self):
        story = told((BOB, ALICES_RELAY, REQUEST), (ALICES_RELAY, BOB, SUCCESS), (ALICES_RELAY, BOB, PEERS_CHECK), "ring")
        self.assertFalse(story.rang_before_proof)


class Media(unittest.TestCase):
    def test_what_a_relay_carried_is_counted(self):
        story = told((BOB, ALICE, RTP), (ALICE, BOB, RTP), (BOB, TURN, send(RTP)), (ALICES_RELAY, BOB, RTP),
                     (BOB, ALICE, b"\x80\xc8" + bytes(10)))
        self.assertEqual((story.media, story.relayed_media), (4, 2))


class Addresses(unittest.TestCase):
    def test_xor(self):
        # RFC 5769 section 2.2: 192.0.2.1:32853.
        value = bytes.fromhex("0001a147e112a643")
        self.assertEqual(turn.peer_address(value), "192.0.2.1:32853")
        self.assertIsNone(turn.peer_address(value[:5]))

    def test_noise_is_no_stun(self):
        for noise in (b"", b"\x00", bytes(20), b"\x00\x01\xff\xff\x21\x12\xa4\x42" + bytes(12), RTP):
            self.assertIsNone(turn.stun_message(noise))


class Files(unittest.TestCase):
    def test_a_capture_is_read(self):
        udp = struct.pack("!HHHH", 40000, 5000, 8 + len(REQUEST), 0) + REQUEST
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0, bytes([192, 168, 2, 20]),
                         bytes([198, 18, 0, 2]))
        frame = bytes(12) + b"\x08\x00" + ip + udp
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "a.pcap"
            path.write_bytes(bytes(24) + struct.pack("<IIII", 5, 500_000, len(frame), len(frame)) + frame)
            (packet,) = trace.packets(path)
        self.assertEqual((packet.time, packet.source, packet.destination, packet.payload), (5.5, BOB, ALICE, REQUEST))


if __name__ == "__main__":
    unittest.main()
