#!/usr/bin/python3
"""ssh, scp and sftp under the library to an sshd on the kernel."""
import subprocess

import harness
from harness import KERNEL4, KERNEL6, WORK, check, equal


def keys():
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", WORK + "/" + name], check=True)
    with open(WORK + "/user.pub", encoding="ascii") as file, \
            open(WORK + "/authorized", "w", encoding="ascii") as authorized:
        authorized.write(file.read())


def server(net):
    # sshd wants its privilege separation directory; /run is ours in this mount namespace.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    subprocess.run(["mkdir", "-p", "/run/sshd"], check=True)
    with open(WORK + "/sshd_config", "w", encoding="ascii") as file:
        file.write("""
Port 2222
ListenAddress 10.77.0.1
ListenAddress fd77::1
HostKey %s/host
AuthorizedKeysFile %s/authorized
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
UseDNS no
MaxStartups 100
Subsystem sftp internal-sftp
""" % (WORK, WORK))
    program = net.kernel("/usr/sbin/sshd", "-D", "-e", "-f", WORK + "/sshd_config")
    harness.wait_port(2222, KERNEL4, program)
    return program


def test(net):
    harness.need("ssh", "scp", "sshd", "ssh-keygen")
    keys()
    sshd = server(net)
    common = ["-F", "none", "-i", WORK + "/user", "-o", "UserKnownHostsFile=/dev/null",
              "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]
    ssh = ["ssh", "-p", "2222", *common]

    program = net.wrapped(*ssh, "root@" + KERNEL4, "echo out; echo error >&2; exit 7", traced=True)
    equal(program.wait(), 7, "the remote command's status")
    equal(program.out(), b"out\n", "the remote command's output")
    equal(program.errors(), "error\n", "the remote command's errors, and nothing else")
    path, digest = harness.make_file("data", 64 << 20)
    for host in (KERNEL4, KERNEL6):
        with open(path, "rb") as file:
            program = net.wrapped(*ssh, "root@" + host, "sha256sum", stdin=file).expect(0)
        equal(program.out().decode().split()[0], digest, "a stream to the server " + host)
        program = net.wrapped(*ssh, "root@" + host, "cat " + path).expect(0)
        equal(harness.sha256_file(program.out_path), digest, "a stream from the server " + host)
    with open(path, "rb") as file:
        program = net.wrapped(*ssh, "root@" + KERNEL4, "cat", stdin=file).expect(0)
    equal(harness.sha256_file(program.out_path), digest, "both ways at once")

    # scp starts ssh: the configuration goes through exec.
    scp = ["scp", "-q", "-P", "2222", *common]
    net.wrapped(*scp, path, "root@%s:%s/up" % (KERNEL4, WORK), traced=True).expect(0)
    equal(harness.sha256_file(WORK + "/up"), digest, "scp to the server")
    net.wrapped(*scp, "root@%s:%s" % (KERNEL4, path), WORK + "/down").expect(0)
    equal(harness.sha256_file(WORK + "/down"), digest, "scp from the server")

    # A tunnel: the listener is on the stack's own address, the far end on the kernel.
    echo = net.kernel("/usr/bin/python3", "-c", """
import socket
s = socket.create_server(("127.0.0.1", 7000))
while True:
    c, _ = s.accept()
    while d := c.recv(65536):
        c.sendall(d)
    c.close()
""")
    harness.wait_port(7000, "127.0.0.1", echo)
    tunnel = net.wrapped(*ssh, "-N", "-g", "-L", "10.77.0.2:7001:127.0.0.1:7000", "root@" + KERNEL4)
    harness.wait_port(7001, harness.STACK4, tunnel)
    with open(path, "rb") as file:
        data = file.read(4 << 20)
    check(harness.exchange(harness.STACK4, 7001, data) == data, "through the tunnel")
    tunnel.stop()
    equal(net.wrapped("ssh", "-p", "2223", *common, "root@" + KERNEL4, "true").wait(), 255,
          "status when refused")
    check(sshd.alive(), "sshd died")


harness.run(test)
