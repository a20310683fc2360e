"""The peer of a differential program: obeys commands, one message each, on the kernel's sockets.

Every command is answered with one message: "ok ..." or what was seen, or the errno's name. Sockets
are known by the names that the program gives them. Nothing that depends on time is answered.
"""

import errno
import socket
import struct
import threading
import time
import zlib

TIMEOUT = 10


def pattern(count, seed, offset=0):
    period = bytes((i * 31 + seed) % 251 for i in range(251))
    start = offset % 251
    whole = period * (count // 251 + 2)
    return whole[start:start + count]


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def described(data):
    if len(data) <= 64 and all(32 <= b < 127 for b in data):
        return "%d '%s'" % (len(data), data.decode())
    return "%d crc %08x" % (len(data), zlib.crc32(data))


class Peer:
    def __init__(self, control):
        self.control = control
        self.sockets = {}
        self.threads = []

    def run(self):
        while True:
            message = self.control.recv(4096)
            if not message:
                return
            try:
                self.control.send(self.execute(message.decode()).encode())
            except (BrokenPipeError, ConnectionResetError):
                return

    def execute(self, line):
        words = line.split(" ")
        try:
            result = getattr(self, "do_" + words[0])(*words[1:])
            return "ok" if result is None else str(result)
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                return "TIMEOUT"
            return errno.errorcode.get(error.errno, repr(error))
        except Exception as error:  # a mistake in the program's command
            return "BAD " + repr(error)

    def add(self, name, sock):
        sock.settimeout(TIMEOUT)
        self.sockets[name] = sock

    # --- TCP ---
    def do_listen(self, name, address, port, backlog="128"):
        sock = socket.socket(family(address), socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, int(port)))
        sock.listen(int(backlog))
        self.add(name, sock)

    def do_accept(self, listener, name):
        sock, _ = self.sockets[listener].accept()
        self.add(name, sock)

    def do_try_accept(self, listener, name):
        self.sockets[listener].settimeout(0)
        try:
            sock, _ = self.sockets[listener].accept()
        except BlockingIOError:
            return "none"
        finally:
            self.sockets[listener].settimeout(TIMEOUT)
        self.add(name, sock)

    def do_try_recv(self, name):
        self.sockets[name].settimeout(0)
        try:
            return described(self.sockets[name].recv(4096))
        finally:
            self.sockets[name].settimeout(TIMEOUT)

    def do_accept_from(self, listener, name):
        sock, address = self.sockets[listener].accept()
        self.add(name, sock)
        return "from " + address[0]

    def do_connect(self, name, address, port, source=None, source_port="0"):
        sock = socket.socket(family(address), socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT)
        if source is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((source, int(source_port)))
        sock.connect((address, int(port)))
        self.add(name, sock)

    def do_connect_many(self, prefix, count, address, port):
        for i in range(int(count)):
            self.do_connect(prefix + str(i), address, port)

    def do_close_many(self, prefix, count):
        for i in range(int(count)):
            self.do_close(prefix + str(i))

    def do_try_connect(self, name, address, port, milliseconds):
        """A connection that is not expected to come about in time."""
        sock = socket.socket(family(address), socket.SOCK_STREAM)
        self.add(name, sock)
        sock.settimeout(int(milliseconds) / 1000)
        sock.connect((address, int(port)))

    def do_send(self, name, count, seed="0"):
        self.sockets[name].sendall(pattern(int(count), int(seed)))

    def do_text(self, name, *words):
        self.sockets[name].sendall(" ".join(words).encode())

    def do_oob(self, name, *words):
        self.sockets[name].send(" ".join(words).encode(), socket.MSG_OOB)

    def do_recv(self, name, count):
        """Exactly `count` bytes, or what came before the end."""
        return described(self.read(name, int(count))[0])

    def do_recv_oob(self, name):
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return described(self.sockets[name].recv(1, socket.MSG_OOB))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EAGAIN) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def do_drain(self, name):
        """Everything up to the end, and how it ended."""
        data, end = self.read(name, 1 << 40)
        return described(data) + " then " + end

    def read(self, name, count):
        sock = self.sockets[name]
        parts, left = [], count
        while left > 0:
            try:
                part = sock.recv(min(left, 1 << 18))
            except OSError as error:
                return b"".join(parts), errno.errorcode.get(error.errno, "TIMEOUT")
            if not part:
                return b"".join(parts), "end"
            parts.append(part)
            left -= len(part)
        return b"".join(parts), "more"

    def do_shut(self, name, how):
        self.sockets[name].shutdown({"rd": 0, "wr": 1, "rdwr": 2}[how])

    def do_close(self, name):
        self.sockets.pop(name).close()

    def do_reset(self, name):
        sock = self.sockets.pop(name)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def do_opt(self, name, level, option, value):
        self.sockets[name].setsockopt(int(level), int(option), int(value))

    def do_small_buffer(self, name):
        self.sockets[name].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def do_echo(self, name):
        sock = self.sockets[name]

        def serve():
            try:
                while True:
                    data = sock.recv(65536)
                    if not data:
                        break
                    sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        self.start(serve)

    # --- UDP ---
    def do_udp(self, name, address, port):
        sock = socket.socket(family(address), socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.bind((address, int(port)))
        self.add(name, sock)

    def do_sendto(self, name, address, port, *words):
        self.sockets[name].sendto(" ".join(words).encode(), (address, int(port)))

    def do_sendbytes(self, name, address, port, count, seed="0"):
        self.sockets[name].sendto(pattern(int(count), int(seed)), (address, int(port)))

    def do_recvfrom(self, name):
        data, address = self.sockets[name].recvfrom(65536)
        return "%s from %s" % (described(data), address[0])

    def do_reply(self, name, *words):
        """Answers the next datagram to where it came from."""
        data, address = self.sockets[name].recvfrom(65536)
        self.sockets[name].sendto(" ".join(words).encode(), address)
        return described(data)

    def do_recv_tos_ttl(self, name):
        sock = self.sockets[name]
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        return self.do_recv_tos_ttl_now(name)

    def do_recv_tos_ttl_now(self, name):
        data, ancillary, _, _ = self.sockets[name].recvmsg(65536, 256)
        seen = sorted("%d=%d" % (kind, value[0]) for _, kind, value in ancillary)
        return described(data) + " " + " ".join(seen)

    def do_join(self, name, group):
        sock = self.sockets[name]
        if ":" in group:
            index = socket.if_nametoindex("us0")
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                            socket.inet_pton(socket.AF_INET6, group) + struct.pack("i", index))
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                            socket.inet_aton(group) + socket.inet_aton("10.77.0.1"))

    def do_multicast_out(self, name):
        sock = self.sockets[name]
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF,
                            struct.pack("i", socket.if_nametoindex("us0")))
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                            socket.inet_aton("10.77.0.1"))

    # --- in the background ---
    def start(self, function):
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        self.threads.append(thread)

    def do_after(self, milliseconds, *words):
        """Obeys the rest later, while the program does something that blocks."""
        def later():
            time.sleep(int(milliseconds) / 1000)
            self.execute(" ".join(words))

        self.start(later)

    def do_pause(self, milliseconds):
        time.sleep(int(milliseconds) / 1000)

    def do_wait(self):
        for thread in self.threads:
            thread.join(TIMEOUT)
        self.threads = []


def serve(control):
    Peer(control).run()
