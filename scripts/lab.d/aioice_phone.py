#!/usr/bin/env python3
"""A phone with the ICE agent of PyPI's aioice: just enough SIP to call and be called.

    aioice_phone.py listen --user U --address IP --proxy IP --stun IP --tone HZ --recording FILE
    aioice_phone.py call USER …

It speaks G.711 mu-law under rtcp-mux and records what it hears. As a callee it rings as
RFC 8839 section 7.1.1 would have it: its candidates go in a 183, and the 180 waits until its
ICE has connected. A line on standard input, SIGTERM or a BYE ends the call.
"""

import argparse
import array
import asyncio
import math
import secrets
import signal
import struct
import sys
import wave

import aioice

from rtp_voice import FRAME, RATE, decode, encode

T1 = 0.5
RINGS = 1.0          # seconds until the callee picks up
PATIENCE = 10.0      # seconds for the checks


class Message:
    """A request or a response, its header fields in order."""

    def __init__(self, start, headers, body=""):
        self.start, self.headers, self.body = start, headers, body

    @classmethod
    def parse(cls, data):
        head, _, body = data.decode().partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return cls(start, headers, body)

    def all(self, name):
        return [value for known, value in self.headers if known == name]

    def get(self, name):
        return next(iter(self.all(name)), "")

    @property
    def status(self):
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0") else None

    @property
    def method(self):
        return self.get("cseq").split()[1]

    def encode(self):
        body = self.body.encode()
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers), f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def address_in(field):
    """The URI between the angle brackets."""
    return field.partition("<")[2].partition(">")[0]


class Phone(asyncio.DatagramProtocol):
    """One call."""

    def __init__(self, options):
        self.options = options
        self.call_id, self.tag, self.sequence = secrets.token_hex(8), secrets.token_hex(4), 0
        self.arrived = asyncio.Queue()
        self.ended = asyncio.Event()
        self.hung_up_by_peer = False
        self.responses = {}      # what was answered to a request, for when it comes again
        self.answer = ""         # our SDP, once it is agreed upon
        self.acknowledge = None  # what to send when the 200 comes again
        self.ice = None
        self.heard = array.array("h")

    # SIP

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, _from):
        if not data.strip():
            return
        message = Message.parse(data)
        if message.status is None:
            self.requested(message)
        elif message.status == 200 and message.method == "INVITE" and self.acknowledge:
            self.send(self.acknowledge)
        else:
            self.arrived.put_nowait(message)

    def requested(self, request):
        again = self.responses.get((request.get("call-id"), request.get("cseq")))
        if request.method == "BYE":
            self.respond(request, "200 OK")
            self.hung_up_by_peer = True
            self.ended.set()
        elif request.method == "CANCEL":
            self.respond(request, "200 OK")
            self.ended.set()
        elif request.method == "INVITE" and self.answer and not again:
            # The nominated pair in an updated offer (RFC 8839 section 4.4.1.2.2).
            self.respond(request, "200 OK", self.answer)
        elif request.method in ("INVITE", "ACK") and not again:
            self.arrived.put_nowait(request)
        elif again:
            self.send(again)
        elif request.method == "OPTIONS":
            self.respond(request, "200 OK")

    def send(self, message):
        self.transport.sendto(message.encode(), (self.options.proxy, 5060))

    def respond(self, request, status, body=""):
        tag = "" if "tag=" in request.get("to") or status.startswith("100") else f";tag={self.tag}"
        headers = [("Via", via) for via in request.all("via")]
        headers += [("Record-Route", route) for route in request.all("record-route")]
        headers += [("From", request.get("from")), ("To", request.get("to") + tag),
                    ("Call-ID", request.get("call-id")), ("CSeq", request.get("cseq")), ("Contact", self.contact())]
        if body:
            headers.append(("Content-Type", "application/sdp"))
        response = Message(f"SIP/2.0 {status}", headers, body)
        self.responses[request.get("call-id"), request.get("cseq")] = response
        self.send(response)

    def contact(self):
        return f"<sip:{self.options.user}@{self.options.address}:5060>"

    def request(self, method, uri, *, to, own=None, routes=(), body="", sequence=None):
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        own = own or f"<sip:{self.options.user}@{self.options.proxy}>;tag={self.tag}"
        headers = [("Via", f"SIP/2.0/UDP {self.options.address}:5060;rport;branch=z9hG4bK{secrets.token_hex(8)}"),
                   *(("Route", route) for route in routes), ("Max-Forwards", "70"), ("From", own), ("To", to),
                   ("Call-ID", self.call_id), ("CSeq", f"{sequence} {method}"), ("Contact", self.contact())]
        if method == "REGISTER":
            headers.append(("Expires", "3600"))
        if body:
            headers.append(("Content-Type", "application/sdp"))
        return Message(f"{method} {uri} SIP/2.0", headers, body)

    async def responses_to(self, request, patience=32.0):
        """Yields them up to the final one; sends again over and over until the first."""
        clock = asyncio.get_running_loop().time
        wait, limit, provisional = T1, clock() + patience, False
        self.send(request)
        while clock() < limit:
            try:
                response = await asyncio.wait_for(self.arrived.get(), limit - clock() if provisional else wait)
            except asyncio.TimeoutError:
                self.send(request)
                wait *= 2
                continue
            if response.status is None or response.get("cseq") != dict(request.headers)["CSeq"]:
                continue
            provisional = True
            yield response
            if response.status >= 200:
                return

    async def register(self):
        domain = f"sip:{self.options.proxy}"
        me = f"<sip:{self.options.user}@{self.options.proxy}>"
        async for response in self.responses_to(self.request("REGISTER", domain, to=me)):
            if response.status == 200:
                say("registered")
                return
        raise SystemExit("not registered")

    async def hang_up(self, dialog):
        async for _ in self.responses_to(self.request("BYE", **dialog), patience=3.0):
            pass

    # SDP and ICE

    async def gather(self, controlling):
        self.ice = aioice.Connection(ice_controlling=controlling, components=1, use_ipv6=False,
                                     stun_server=(self.options.stun, 3478))
        await self.ice.gather_candidates()

    def description(self):
        default = self.ice.get_default_candidate(1)
        lines = ["v=0", f"o=- {secrets.randbits(31)} 1 IN IP4 {default.host}", "s=-", f"c=IN IP4 {default.host}", "t=0 0",
                 f"m=audio {default.port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendrecv", "a=rtcp-mux",
                 f"a=ice-ufrag:{self.ice.local_username}", f"a=ice-pwd:{self.ice.local_password}",
                 *(f"a=candidate:{candidate.to_sdp()}" for candidate in self.ice.local_candidates)]
        return "\r\n".join(lines) + "\r\n"

    async def connect(self, body):
        """Hands the peer's description to aioice and waits for its checks."""
        for line in body.split("\r\n"):
            name, _, value = line.partition(":")
            if name == "a=ice-ufrag":
                self.ice.remote_username = value
            elif name == "a=ice-pwd":
                self.ice.remote_password = value
            elif name == "a=candidate":
                candidate = aioice.Candidate.from_sdp(value)
                # rtcp-mux: there is one component.
                if candidate.component == 1 and candidate.transport.lower() == "udp":
                    await self.ice.add_remote_candidate(candidate)
        await self.ice.add_remote_candidate(None)
        try:
            await asyncio.wait_for(self.ice.connect(), PATIENCE)
        except (ConnectionError, asyncio.TimeoutError) as error:
            say(f"no path: {error!r}")
            return False
        say("connected")
        return True

    async def connect_unless_cancelled(self, body):
        checks, cancelled = asyncio.create_task(self.connect(body)), asyncio.create_task(self.ended.wait())
        await asyncio.wait({checks, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        cancelled.cancel()
        if not checks.done():
            checks.cancel()
            return False
        return checks.result()

    # The call

    async def call(self, user):
        await self.gather(controlling=True)
        uri = f"sip:{user}@{self.options.proxy}"
        invite = self.request("INVITE", uri, to=f"<{uri}>", body=self.description())
        checks = None
        async for response in self.responses_to(invite):
            say(f"status {response.status}")
            if response.body and checks is None:
                checks = asyncio.create_task(self.connect(response.body))
        if response.status != 200 or checks is None:
            raise SystemExit(f"refused: {response.start}")
        dialog = {"uri": address_in(response.get("contact")), "to": response.get("to"),
                  "routes": response.all("record-route")[::-1]}
        self.acknowledge = self.request("ACK", **dialog, sequence=self.sequence)
        self.send(self.acknowledge)
        if await checks:
            say("established")
            await self.talk()
        if not self.hung_up_by_peer:
            await self.hang_up(dialog)

    async def listen(self):
        await self.register()
        while True:
            invite = await self.arrived.get()
            if invite.status is None and invite.method == "INVITE":
                break
        self.respond(invite, "100 Trying")
        await self.gather(controlling=False)
        answer = self.description()
        self.respond(invite, "183 Session Progress", answer)
        if not await self.connect_unless_cancelled(invite.body):
            self.respond(invite, "487 Request Terminated" if self.ended.is_set() else "480 Temporarily Unavailable")
            await asyncio.sleep(0.5)
            return
        self.respond(invite, "180 Ringing")
        say("ringing")
        await asyncio.sleep(RINGS)
        self.respond(invite, "200 OK", answer)
        self.answer = answer
        say("established")
        await self.talk()
        await asyncio.sleep(0.5)

    async def talk(self):
        hearing = asyncio.create_task(self.hear())
        loop = asyncio.get_running_loop()
        ssrc, number, begun = secrets.randbits(32), 0, loop.time()
        while not self.ended.is_set():
            spoken = number * FRAME
            sound = bytes(encode(int(8000 * math.sin(2 * math.pi * self.options.tone * (spoken + i) / RATE)))
                          for i in range(FRAME))
            header = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, spoken & 0xFFFFFFFF, ssrc)
            try:
                await self.ice.send(header + sound)
            except ConnectionError as error:
                say(f"lost: {error!r}")
                break
            number += 1
            await asyncio.sleep(max(0.0, begun + number * FRAME / RATE - loop.time()))
        hearing.cancel()

    async def hear(self):
        linear = [decode(byte) for byte in range(256)]
        while True:
            packet = await self.ice.recv()
            if len(packet) > 12 and packet[0] >> 6 == 2 and packet[1] & 127 == 0:
                self.heard.extend(linear[byte] for byte in packet[12:])

    def write_recording(self):
        with wave.open(self.options.recording, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes(self.heard.tobytes())


def say(text):
    print(text, flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["call", "listen"])
    parser.add_argument("callee", nargs="?")
    for name in ("user", "address", "proxy", "stun", "recording"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tone", type=float, required=True)
    return parser.parse_args()


async def main():
    options = arguments()
    loop = asyncio.get_running_loop()
    _, phone = await loop.create_datagram_endpoint(lambda: Phone(options), local_addr=(options.address, 5060))

    def end():
        phone.ended.set()

    loop.add_signal_handler(signal.SIGTERM, end)
    if not sys.stdin.isatty():
        loop.add_reader(sys.stdin, lambda: (loop.remove_reader(sys.stdin), end()))
    try:
        await (phone.call(options.callee) if options.verb == "call" else phone.listen())
    finally:
        phone.write_recording()
        if phone.ice is not None:
            await phone.ice.close()


if __name__ == "__main__":
    asyncio.run(main())
