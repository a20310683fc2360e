#!/usr/bin/python3
"""python3: http.server under the library served to kernel clients; urllib and asyncio under the
library against the kernel."""
import os
import socket

import harness
from harness import KERNEL4, KERNEL6, STACK4, STACK6, WORK, check, equal

URLLIB = """
import hashlib, sys, urllib.request, urllib.error
for url in sys.argv[1:]:
    with urllib.request.urlopen(url, timeout=20) as answer:
        digest = hashlib.sha256()
        while part := answer.read(1 << 18):
            digest.update(part)
        print(answer.status, digest.hexdigest())
try:
    urllib.request.urlopen("http://10.77.0.1:9/", timeout=5)
except urllib.error.URLError as error:
    print(error.reason.errno)
"""

ASYNCIO = """
import asyncio, hashlib, os, sys
DATA = os.urandom(3 << 20)
async def talk(host, port, n):
    reader, writer = await asyncio.open_connection(host, port)
    async def send():
        writer.write(DATA)
        await writer.drain()
        writer.write_eof()
    sending = asyncio.create_task(send())
    back = await reader.read(-1)
    await sending
    writer.close()
    return back == DATA
async def main():
    print(sum(await asyncio.gather(*(talk(sys.argv[1], int(sys.argv[2]), n) for n in range(10)))))
asyncio.run(main())
"""

ECHO = """
import asyncio, sys
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]))
    await server.serve_forever()
asyncio.run(main())
"""


def test(net):
    harness.need("curl")
    _, digest = harness.make_file("www/file", 64 << 20)
    server = net.wrapped("/usr/bin/python3", "-m", "http.server", "8000", "--bind", "::",
                         "--directory", WORK + "/www", traced=True)
    harness.wait_port(8000, STACK4, server)
    for url in ("http://%s:8000/file" % STACK4, "http://[%s]:8000/file" % STACK6):
        equal(harness.fetch_hash(net, url), digest, url)
    clients = [net.kernel("curl", "-sS", "--fail", "http://%s:8000/file" % STACK4) for _ in range(6)]
    for client in clients:
        client.expect(0, 120)
        equal(harness.sha256_file(client.out_path), digest, "one of six at once")
        os.unlink(client.out_path)
    status = net.kernel("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}",
                        "http://%s:8000/missing" % STACK4).expect(0)
    equal(status.out(), b"404", "status of what is missing")
    net.owns_no_socket(server)
    net.quiet(server)
    server.stop()

    kernel = net.kernel("/usr/bin/python3", "-m", "http.server", "8001", "--bind", "::",
                        "--directory", WORK + "/www")
    harness.wait_port(8001, KERNEL4, kernel)
    client = net.wrapped("/usr/bin/python3", "-c", URLLIB, "http://%s:8001/file" % KERNEL4,
                         "http://[%s]:8001/file" % KERNEL6, traced=True).expect(0, 90)
    equal(client.out().decode(), "200 %s\n200 %s\n111\n" % (digest, digest), "urllib")

    echo = net.kernel("/usr/bin/python3", "-c", ECHO, KERNEL4, "8002")
    harness.wait_port(8002, KERNEL4, echo)
    client = net.wrapped("/usr/bin/python3", "-c", ASYNCIO, KERNEL4, "8002").expect(0, 60)
    equal(client.out(), b"10\n", "asyncio clients")
    echo = net.wrapped("/usr/bin/python3", "-c", ECHO, STACK4, "8003")
    harness.wait_port(8003, STACK4, echo)
    client = net.kernel("/usr/bin/python3", "-c", ASYNCIO, STACK4, "8003").expect(0, 60)
    equal(client.out(), b"10\n", "asyncio server")
    check(echo.alive(), "the asyncio server died")
    probe = socket.create_connection((STACK4, 8003), 5)
    probe.close()


harness.run(test)
