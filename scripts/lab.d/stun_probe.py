#!/usr/bin/env python3
"""Classifies the NAT in front of this host by RFC 5780: `stun_probe.py SERVER`.

Prints `mapping filtering`, each one of endpoint-independent,
address-dependent, address-and-port-dependent, or `blocked`.
"""

import os
import socket
import struct
import sys

COOKIE = 0x2112A442
MAPPED, CHANGE_REQUEST, XOR_MAPPED, OTHER_ADDRESS = 0x0001, 0x0003, 0x0020, 0x802C
CHANGE_ADDRESS, CHANGE_PORT = 4, 2


def binding_request(change):
    transaction = os.urandom(12)
    attributes = struct.pack("!HHI", CHANGE_REQUEST, 4, change) if change else b""
    return transaction, struct.pack("!HHI", 0x0001, len(attributes), COOKIE) + transaction + attributes


def addresses(response):
    """The addresses in a Binding response: {attribute type: (ip, port)}."""
    found = {}
    at = 20
    while at + 4 <= len(response):
        kind, length = struct.unpack_from("!HH", response, at)
        value = response[at + 4:at + 4 + length]
        if kind in (XOR_MAPPED, OTHER_ADDRESS) and length == 8:
            port, ip = struct.unpack("!HI", value[2:])
            if kind == XOR_MAPPED:
                port, ip = port ^ COOKIE >> 16, ip ^ COOKIE
            found[kind] = (socket.inet_ntoa(struct.pack("!I", ip)), port)
        at += 4 + (length + 3) // 4 * 4
    return found


def ask(sock, server, change=0, patience=0.3, tries=3):
    """A Binding transaction; None when no answer comes."""
    for _ in range(tries):
        transaction, request = binding_request(change)
        sock.sendto(request, server)
        sock.settimeout(patience)
        try:
            while True:
                response, source = sock.recvfrom(2048)
                if response[8:20] == transaction and response[:2] == b"\x01\x01":
                    return addresses(response)
        except (TimeoutError, socket.timeout):
            continue
        except OSError:
            return None
    return None


def mapping(sock, server, other):
    first = ask(sock, server)[XOR_MAPPED]
    # RFC 5780 section 4.3: the other address first, then its other port.
    second = ask(sock, (other[0], server[1]))
    third = ask(sock, other)
    if second is None or third is None:
        return "unknown"
    if second[XOR_MAPPED] == first:
        return "endpoint-independent"
    if third[XOR_MAPPED] == second[XOR_MAPPED]:
        return "address-dependent"
    return "address-and-port-dependent"


def filtering(sock, server):
    ask(sock, server)
    if ask(sock, server, CHANGE_ADDRESS | CHANGE_PORT, tries=2):
        return "endpoint-independent"
    if ask(sock, server, CHANGE_PORT, tries=2):
        return "address-dependent"
    return "address-and-port-dependent"


def fresh_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 0))
    return sock


def main():
    server = (sys.argv[1], 3478)
    answer = ask(fresh_socket(), server, tries=2)
    if answer is None:
        print("blocked blocked")
        return
    other = answer[OTHER_ADDRESS]
    # Filtering is asked on a socket that never sent to the other address.
    print(mapping(fresh_socket(), server, other), filtering(fresh_socket(), server))


if __name__ == "__main__":
    main()
