#!/usr/bin/env python3
"""Gives SIPp a voice: `rtp_voice.py ADDRESS PORT HERTZ RECORDING.wav`.

SIPp's own echo sends packets back under the caller's SSRC, which a phone must
take for a loop (RFC 3550 section 8.2). This one speaks G.711 mu-law under an
SSRC of its own to whoever sends it RTP, and records what it hears, until it
is told to end.
"""

import array
import math
import os
import select
import signal
import socket
import struct
import sys
import time
import wave

RATE, FRAME = 8000, 160
BIAS, CLIP = 0x84, 32635


def encode(sample):
    """ITU-T G.711 mu-law."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), CLIP) + BIAS
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 15) & 0xFF


def decode(byte):
    byte = ~byte & 0xFF
    magnitude = ((byte & 15) << 3 | BIAS) << (byte >> 4 & 7)
    return BIAS - magnitude if byte & 0x80 else magnitude - BIAS


def main():
    address, port, hertz, recording = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    linear = [decode(byte) for byte in range(256)]
    heard = array.array("h")
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    peer, sequence, spoken, ssrc = None, 0, 0, int.from_bytes(os.urandom(4), "big")
    next_frame = time.monotonic()
    while running:
        ready, _, _ = select.select([sock], [], [], max(0, next_frame - time.monotonic()))
        if ready:
            packet, peer = sock.recvfrom(2048)
            if len(packet) > 12 and packet[0] >> 6 == 2 and packet[1] & 127 == 0:
                heard.extend(linear[byte] for byte in packet[12:])
        if time.monotonic() < next_frame:
            continue
        next_frame += FRAME / RATE
        if peer is not None:
            sound = bytes(encode(int(8000 * math.sin(2 * math.pi * hertz * (spoken + i) / RATE))) for i in range(FRAME))
            sock.sendto(struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, spoken & 0xFFFFFFFF, ssrc) + sound, peer)
            sequence, spoken = sequence + 1, spoken + FRAME
    with wave.open(recording, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(heard.tobytes())


if __name__ == "__main__":
    main()
