"""A name server for tests: answers from a table over UDP and TCP, on the kernel's side, and writes a
line for each question: transport, type, name, and whether the question had EDNS.

  dns_server.py LOG ADDRESS...

Names: NAME.test A/AAAA/CNAME/TXT/PTR from RECORDS; long.test TXT is truncated over UDP; silent.test is never
answered; everything else is NXDOMAIN.
"""
import socket
import struct
import sys
import threading

A, CNAME, SOA, PTR, TXT, AAAA, OPT = 1, 5, 6, 12, 16, 28, 41
RECORDS = {
    ("host.test", A): ["192.0.2.7"],
    ("host.test", AAAA): ["2001:db8::7"],
    ("web.test", A): ["10.77.0.1"],
    ("web.test", AAAA): ["fd77::1"],
    ("four.test", A): ["10.77.0.1"],
    ("alias.test", CNAME): ["four.test"],
    ("short.search.test", A): ["192.0.2.8"],
    ("7.2.0.192.in-addr.arpa", PTR): ["host.test"],
    ("long.test", TXT): [chr(97 + i) * 200 for i in range(16)],
    ("many.test", A): ["198.51.100.%d" % (i + 1) for i in range(100)],
}


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def data(kind, value):
    if kind == A:
        return socket.inet_aton(value)
    if kind == AAAA:
        return socket.inet_pton(socket.AF_INET6, value)
    if kind == TXT:
        return bytes([len(value)]) + value.encode()
    return encode(value)


def answer(query, transport, log):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind, = struct.unpack_from("!H", query, at + 1)
    question = query[12:at + 5]
    name = ".".join(labels).lower()
    edns = struct.unpack_from("!H", query, 10)[0] != 0
    size = 512
    if edns:
        size = struct.unpack_from("!H", query, at + 5 + 3)[0]
    log.write("%s %d %s%s\n" % (transport, kind, name, " edns" if edns else ""))
    if name == "silent.test":
        return None
    found = [(kind, value) for value in RECORDS.get((name, kind), [])]
    if (name, CNAME) in RECORDS and kind != CNAME:
        target = RECORDS[name, CNAME][0]
        found = [(CNAME, target)] + [(kind, value) for value in RECORDS.get((target, kind), [])]
    exists = any(key[0] == name for key in RECORDS)
    records, owner = b"", b"\xc0\x0c"
    for this, value in found:
        body = data(this, value)
        records += owner + struct.pack("!HHIH", this, 1, 60, len(body)) + body
        if this == CNAME:
            owner = encode(value)
    flags = 0x8580 | (0 if exists else 3)
    count = len(found)
    extra = b"\0" + struct.pack("!HHIH", OPT, 1232, 0, 0) if edns else b""
    if transport == "udp" and 12 + len(question) + len(records) + len(extra) > size:
        flags, records, count = flags | 0x200, b"", 0
    return (query[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 1 if edns else 0) + question + records
            + extra)


def serve_udp(sock, log):
    while True:
        query, peer = sock.recvfrom(4096)
        reply = answer(query, "udp", log)
        if reply:
            sock.sendto(reply, peer)


def serve_tcp(sock, log):
    while True:
        connection, _ = sock.accept()
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(2):
                reply = answer(stream.read(struct.unpack("!H", head)[0]), "tcp", log)
                if not reply:
                    break
                connection.sendall(struct.pack("!H", len(reply)) + reply)


def main():
    log = open(sys.argv[1], "w", buffering=1, encoding="ascii")
    for address in sys.argv[2:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind((address, 53))
        tcp = socket.create_server((address, 53), family=family)
        threading.Thread(target=serve_udp, args=(udp, log)).start()
        threading.Thread(target=serve_tcp, args=(tcp, log)).start()


main()
