#!/usr/bin/python3
"""node under the library: HTTP server and client, streams, keep-alive, UDP."""
import socket

import harness
from harness import KERNEL4, KERNEL6, STACK4, STACK6, WORK, check, equal

SERVER = """
const http = require('http'), fs = require('fs'), crypto = require('crypto'), dgram = require('dgram');
http.createServer((request, response) => {
  if (request.method === 'PUT') {
    const hash = crypto.createHash('sha256');
    request.on('data', part => hash.update(part));
    request.on('end', () => response.end(hash.digest('hex')));
  } else {
    fs.createReadStream('/mnt/www' + request.url).on('error', () => {
      response.statusCode = 404;
      response.end();
    }).pipe(response);
  }
}).listen(8300, '::');
const socket = dgram.createSocket('udp4');
socket.on('message', (data, from) => socket.send(data, from.port, from.address));
socket.bind(8301, '10.77.0.2');
"""

CLIENT = """
const http = require('http'), crypto = require('crypto');
const agent = new http.Agent({keepAlive: true, maxSockets: 4});
let left = 0, results = {};
function get(url) {
  ++left;
  http.get(url, {agent}, response => {
    const hash = crypto.createHash('sha256');
    response.on('data', part => hash.update(part));
    response.on('end', () => {
      const line = response.statusCode + ' ' + hash.digest('hex');
      results[line] = (results[line] || 0) + 1;
      if (--left === 0) {
        agent.destroy();
        for (const line of Object.keys(results).sort()) console.log(results[line], line);
        http.get('http://10.77.0.1:9/').on('error', error => console.log(error.code));
      }
    });
  });
}
for (let i = 0; i < 10; ++i) for (const url of process.argv.slice(1)) get(url);
"""


def test(net):
    harness.need("node", "nginx", "curl")
    path, large = harness.make_file("www/large", 32 << 20)
    _, small = harness.make_file("www/small", 3000)
    server = net.wrapped("node", "-e", SERVER)
    harness.wait_port(8300, STACK4, server)
    for base in ("http://%s:8300/" % STACK4, "http://[%s]:8300/" % STACK6):
        equal(harness.fetch_hash(net, base + "large"), large, base + "large")
        equal(harness.fetch_hash(net, base + "small"), small, base + "small")
        program = net.kernel("curl", "-sS", "-g", "--fail", "-T", path, base + "up").expect(0)
        equal(program.out().decode(), large, "upload to " + base)
    outputs = []
    for i in range(100):
        outputs += ["-o", "/mnt/many.%d" % i, "http://%s:8300/small" % STACK4]
    net.kernel("curl", "-sS", "--fail", "-Z", "--parallel-max", "50", *outputs).expect(0)
    for i in range(100):
        equal(harness.sha256_file("/mnt/many.%d" % i), small, "request %d of 100" % i)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    for i in range(20):
        sock.sendto(b"datagram %d" % i, (STACK4, 8301))
        equal(sock.recv(100), b"datagram %d" % i, "a datagram's echo")
    net.owns_no_socket(server)
    net.quiet(server)
    check(server.alive(), "node died")
    server.stop()

    harness.start_nginx(net.kernel, harness.nginx_configuration(
        WORK + "/www", listen=("10.77.0.1:8080", "[fd77::1]:8080")), KERNEL4, 8080)
    client = net.wrapped("node", "-e", CLIENT, "http://%s:8080/large" % KERNEL4,
                         "http://[%s]:8080/small" % KERNEL6, traced=True).expect(0, 90)
    lines = sorted(["10 200 " + large, "10 200 " + small], key=lambda line: line[3:])
    equal(client.out().decode().split("\n"), lines + ["ECONNREFUSED", ""], "node's client")


harness.run(test)
