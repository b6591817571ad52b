#!/usr/bin/env python3
"""Judges the impairment box: what it takes for media, what it loses, what it counts. Needs nothing but Python, and
no real time: packets are handed to it one by one."""

import os
import socket
import struct
import unittest

import box

PACKETS = 20000


def udp4(body):
    """An IPv4 packet with this UDP body; checksums do not matter here."""
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(body), 0, 0x4000, 64, 17, 0, bytes(4), bytes(4)) + \
        struct.pack("!HHHH", 4000, 4000, 8 + len(body), 0) + body


def udp6(body):
    return struct.pack("!IHBB", 6 << 28, 8 + len(body), 17, 64) + bytes(32) + \
        struct.pack("!HHHH", 4000, 4000, 8 + len(body), 0) + body


def rtp(number=0, payload=60, kind=96, marker=0, extension=b"", contributors=0):
    first = 0x80 | (0x10 if extension else 0) | contributors
    head = struct.pack("!BBHII", first, marker << 7 | kind, number & 0xFFFF, number * 960 & 0xFFFFFFFF, 7)
    head += bytes(4 * contributors)
    if extension:
        head += struct.pack("!HH", 0xBEDE, len(extension) // 4) + extension
    return head + bytes(payload)


def lose(rate, burst, seed="1"):
    losses = box.Losses(rate, burst, seed)
    return [losses.next() for _ in range(PACKETS)]


def runs_of(lost):
    runs, run = [], 0
    for one in [*lost, False]:
        if one:
            run += 1
        elif run:
            runs.append(run)
            run = 0
    return runs


class WhatIsMedia(unittest.TestCase):
    def test_rtp_and_its_payload(self):
        self.assertEqual(box.classify(udp4(rtp(payload=60))), ("rtp", 60))
        self.assertEqual(box.classify(udp6(rtp(payload=60))), ("rtp", 60))
        self.assertEqual(box.classify(udp4(rtp(marker=1, kind=0, payload=160))), ("rtp", 160))
        self.assertEqual(box.classify(udp4(rtp(extension=bytes(8), contributors=2, payload=60))), ("rtp", 60))

    def test_what_shares_the_port(self):
        for kind, body in (("stun", b"\x00\x01" + bytes(18)), ("dtls", b"\x16\xfe\xfd" + bytes(30)),
                           ("rtcp", b"\x80\xc8" + bytes(26)), ("rtcp", b"\x81\xc9" + bytes(30)),
                           ("rtcp", b"\x80\xcf" + bytes(30)), ("other", b"INVITE sip:bob@192.0.2.1 SIP/2.0\r\n"),
                           ("other", b"\r\n\r\n"), ("other", b"\x40\x00" + bytes(20)), ("other", b"")):
            self.assertEqual(box.classify(udp4(body))[0], kind, body)

    def test_what_is_no_udp(self):
        tcp = bytearray(udp4(rtp()))
        tcp[9] = 6
        self.assertEqual(box.classify(bytes(tcp))[0], "other")
        fragment = bytearray(udp4(rtp()))
        fragment[7] = 100
        self.assertEqual(box.classify(bytes(fragment))[0], "other")
        for length in range(44):
            box.classify(udp4(rtp())[:length])
            box.classify(udp6(rtp())[:length])


class WhatIsLost(unittest.TestCase):
    def test_random_losses_have_the_rate_and_no_memory(self):
        for rate in (0.05, 0.1, 0.2, 0.3):
            lost = lose(rate, 1)
            self.assertAlmostEqual(sum(lost) / PACKETS, rate, delta=0.01)
            runs = runs_of(lost)
            self.assertAlmostEqual(sum(runs) / len(runs), 1 / (1 - rate), delta=0.05)

    def test_bursts_have_the_rate_and_their_length(self):
        for rate in (0.1, 0.2):
            lost = [one for seed in "abcd" for one in lose(rate, 4, seed)]
            self.assertAlmostEqual(sum(lost) / len(lost), rate, delta=0.012)
            runs = runs_of(lost)
            self.assertAlmostEqual(sum(runs) / len(runs), 4, delta=0.2)

    def test_a_seed_gives_the_same_losses_again(self):
        self.assertEqual(lose(0.2, 4, "x"), lose(0.2, 4, "x"))
        self.assertNotEqual(lose(0.2, 4, "x"), lose(0.2, 4, "y"))

    def test_no_loss_loses_nothing(self):
        self.assertFalse(any(lose(0.0, 1)))


class WhatPasses(unittest.TestCase):
    """Packets through a whole box, over sockets in place of TUN devices."""

    def setUp(self):
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        self.phones = [pair[0] for pair in pairs]
        self.sockets = [end for pair in pairs for end in pair]
        for end in self.sockets:
            end.setblocking(False)
        self.devices = [pair[1].fileno() for pair in pairs]

    def tearDown(self):
        for end in self.sockets:
            end.close()

    def carry(self, tested, packets):
        """Sends them from a, one by one, and returns what b has got."""
        got = []
        for packet in packets:
            self.phones[0].send(packet)
            tested._read(0)
            while True:
                try:
                    got.append(self.phones[1].recv(2048))
                except BlockingIOError:
                    break
        return got

    def test_only_rtp_is_lost_and_all_is_counted(self):
        tested = box.Box(self.devices, {"loss": 0.3, "seed": 3})
        media = [udp4(rtp(number)) for number in range(2000)]
        checks = [udp4(b"\x00\x01" + bytes(18) + struct.pack("!H", number)) for number in range(500)]
        got = self.carry(tested, media + checks)
        self.assertEqual([packet for packet in got if packet in set(checks)], checks)
        figures = tested.result()["a_to_b"]
        self.assertEqual(figures["packets"], {"rtp": 2000, "stun": 500})
        self.assertEqual(len(got), 2500 - figures["lost"])
        self.assertAlmostEqual(figures["loss"], 0.3, delta=0.03)
        self.assertEqual(figures["payload_types"], {"96": 2000})
        # Sizes: 60 octets of payload in 100 of IP.
        self.assertAlmostEqual(figures["ip_kbps"] / figures["rtp_payload_kbps"], 100 / 60, places=6)

    def test_an_undisturbed_box_passes_all_in_order(self):
        media = [udp4(rtp(number)) for number in range(500)]
        self.assertEqual(self.carry(box.Box(self.devices, {}), media), media)

    def test_jitter_delays_and_lets_packets_overtake(self):
        way = box.Direction({"jitter_ms": 60}, "1")
        delays = [way.judge(udp4(rtp(number)), number * 0.02) - number * 0.02 for number in range(5000)]
        self.assertGreaterEqual(min(delays), 0)
        self.assertLessEqual(max(delays), 0.06)
        self.assertAlmostEqual(sum(delays) / len(delays), 0.03, delta=0.002)
        self.assertGreater(way.result()["overtaken"], 1000)
        self.assertEqual(way.judge(udp4(b"\x80\xc8" + bytes(26)), 200.0), 200.0)


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    unittest.main()
