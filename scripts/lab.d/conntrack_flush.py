"""Flushes the connection tracking of this network namespace, as a router does that loses power: ctnetlink's
IPCTNL_MSG_CT_DELETE without a tuple. Run it inside the router's namespace."""

import socket
import struct

NETLINK_NETFILTER = 12
CT_DELETE = 1 << 8 | 2          # subsystem CTNETLINK, message IPCTNL_MSG_CT_DELETE
REQUEST_ACK = 1 | 4

with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
    netlink.bind((0, 0))
    netlink.send(struct.pack("=IHHII", 20, CT_DELETE, REQUEST_ACK, 1, 0) + struct.pack("=BBH", 0, 0, 0))
    answer = netlink.recv(4096)
    error = struct.unpack_from("=i", answer, 16)[0]
    if error:
        raise OSError(-error, "the connection tracking was not flushed")
