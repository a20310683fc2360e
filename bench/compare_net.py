"""The wires of bench/compare: namespaces, links, and who runs at each end of a link.

All of it is inside a network namespace and a process namespace of the script's own
(measure.enter_namespace): when the script ends, however it ends, every process and interface goes.
"""

import ctypes
import dataclasses
import os
import shutil
import signal
import subprocess

import measure

GOCODE = "/usr/share/gocode"
PEERS = os.path.join(measure.ROOT, "build", "bench-peers")
CONTROL = "cubic"
PLAIN = ("tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
_libc = ctypes.CDLL(None)


def die_with_parent():
    """For preexec_fn: a helper does not outlive the script (PR_SET_PDEATHSIG)."""
    _libc.prctl(1, signal.SIGKILL)


class Namespace:
    """A network namespace, kept alive by a process that sleeps in it; None is the script's own."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"],
                                       preexec_fn=die_with_parent)
        own = os.readlink("/proc/self/ns/net")
        if not measure.until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own):
            raise SystemExit("unshare made no namespace")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def prefix(self):
        return ["nsenter", "--target", str(self.holder.pid), "--net"]

    def run(self, *command):
        return measure.run(*self.prefix, *command)

    def snmp(self):
        return f"/proc/{self.holder.pid}/net/snmp"


class OwnNamespace:
    """The namespace that the script runs in: the kernel's side of every link."""

    prefix = []

    def run(self, *command):
        return measure.run(*command)

    def snmp(self):
        return "/proc/self/net/snmp"


OWN = OwnNamespace()


@dataclasses.dataclass
class End:
    """One end of a link: where programs run, under what environment, and at which address."""
    space: object
    address: str
    environment: dict = None  # of the library; None: the kernel's sockets
    peer: str = None          # gvisor or lwip: programs of our own in place of the load program
    options: tuple = ()       # of that program
    cores: frozenset = None   # where its programs run; None: where the scheduler puts them

    @property
    def wrapped(self):
        return self.environment is not None

    def counters(self):
        """What this namespace's kernel has opened and accepted, sent and received."""
        found = {}
        with open(self.space.snmp(), encoding="ascii") as file:
            lines = [line.split() for line in file]
        for names, values in zip(lines[::2], lines[1::2]):
            for name, value in zip(names[1:], values[1:]):
                found[names[0] + name] = int(value)
        return found


@dataclasses.dataclass
class Link:
    """Two ends: the one that is measured serves, unless the workload says otherwise."""
    server: End
    client: End


def wrapped_environment(device, address, library):
    return {**os.environ, "LD_PRELOAD": library, "USERSTACK_DEV": device,
            "USERSTACK_ADDR": address + "/24"}


def equal_control(space, interface, address):
    """The kernel's connections over this link use the library's congestion control, by the route: a
    machine whose default is BBR, say, would be held back by its pacing. False without cubic."""
    subnet = address.rsplit(".", 1)[0] + ".0/24"
    try:
        space.run("ip", "route", "replace", subnet, "dev", interface, "proto", "kernel", "scope",
                  "link", "src", address, "congctl", CONTROL)
        return True
    except subprocess.CalledProcessError:
        return False


def plain(space, interface):
    space.run("ethtool", "-K", interface, *PLAIN)


def veth(number, own_name, other_name, other, mtu, own_address=True, other_address=True,
         control=True):
    """A veth pair from here to `other`, as 10.97.`number`.1 and .2."""
    measure.run("ip", "link", "add", own_name, "type", "veth", "peer", "name", other_name, "netns",
                str(other.holder.pid))
    for space, name, host, with_address in ((OWN, own_name, 1, own_address),
                                            (other, other_name, 2, other_address)):
        space.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
        if with_address:
            space.run("ip", "address", "add", f"10.97.{number}.{host}/24", "dev", name)
        space.run("ip", "link", "set", name, "mtu", str(mtu), "up")
        if with_address and control:
            equal_control(space, name, f"10.97.{number}.{host}")


def tap(name, address, queues=("multi_queue", "user", "nobody")):
    measure.run("ip", "tuntap", "add", "dev", name, "mode", "tap", *queues)
    measure.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
    if address:
        measure.run("ip", "address", "add", address + "/24", "dev", name)
    measure.run("ip", "link", "set", name, "up")
    if address:
        equal_control(OWN, name, address)


class Links:
    """Makes each link when it is first asked for, and says why one cannot be made. Servers of different
    users have links of their own: what root's left in TIME-WAIT keeps the device for two minutes."""

    def __init__(self, library, apart=False):
        self.library = library
        self._apart = apart
        self._made = {}
        self._number = 0

    def get(self, name, user="root"):
        if (name, user) not in self._made:
            self._number += 1
            maker = getattr(self, "_" + name.replace("-", "_"))
            link = maker(self._number)
            if self._apart:
                cores = sorted(os.sched_getaffinity(0))
                link.client.cores = frozenset(cores[:len(cores) // 2])
                link.server.cores = frozenset(cores[len(cores) // 2:])
            self._made[name, user] = link
        return self._made[name, user]

    def _kernel(self, n, mtu=1500, offloads=True, control=True):
        other = Namespace()
        veth(n, f"k{n}", f"m{n}", other, mtu, control=control)
        if not offloads:
            plain(OWN, f"k{n}")
            plain(other, f"m{n}")
        return Link(End(other, f"10.97.{n}.2"), End(OWN, f"10.97.{n}.1"))

    def _kernel_default(self, n):
        return self._kernel(n, control=False)

    def _kernel_plain(self, n):
        return self._kernel(n, offloads=False)

    def _kernel_jumbo(self, n):
        return self._kernel(n, mtu=JUMBO)

    def _kernel_plain_jumbo(self, n):
        return self._kernel(n, mtu=JUMBO, offloads=False)

    def _tap(self, n):
        tap(f"t{n}", f"10.97.{n}.1")
        own = wrapped_environment(f"tap:t{n}", f"10.97.{n}.2", self.library)
        return Link(End(OWN, f"10.97.{n}.2", own), End(OWN, f"10.97.{n}.1"))

    def _tap_client(self, n):
        link = self._tap(n)
        return Link(link.client, link.server)

    def _tap_both(self, n):
        measure.run("ip", "link", "add", f"br{n}", "type", "bridge")
        measure.run("sysctl", "-qw", f"net.ipv6.conf.br{n}.disable_ipv6=1")
        measure.run("ip", "link", "set", f"br{n}", "up")
        ends = []
        for side, host in (("a", 2), ("b", 1)):
            tap(f"t{n}{side}", None)
            measure.run("ip", "link", "set", f"t{n}{side}", "master", f"br{n}")
            address = f"10.97.{n}.{host}"
            ends.append(End(OWN, address,
                            wrapped_environment(f"tap:t{n}{side}", address, self.library)))
        return Link(*ends)

    def _xdp(self, n, mtu=1500, offloads=False):
        other = Namespace()
        veth(n, f"k{n}", f"x{n}", other, mtu, other_address=False)
        if not offloads:
            plain(OWN, f"k{n}")
            plain(other, f"x{n}")
        own = wrapped_environment(f"xdp:x{n}", f"10.97.{n}.2", self.library)
        return Link(End(other, f"10.97.{n}.2", own), End(OWN, f"10.97.{n}.1"))

    def _xdp_client(self, n):
        link = self._xdp(n)
        return Link(link.client, link.server)

    def _xdp_offloads(self, n):
        return self._xdp(n, offloads=True)

    def _xdp_jumbo(self, n):
        return self._xdp(n, mtu=JUMBO)

    def _xdp_both(self, n):
        other = Namespace()
        veth(n, f"k{n}", f"x{n}", other, 1500, own_address=False, other_address=False)
        plain(OWN, f"k{n}")
        plain(other, f"x{n}")
        ends = []
        for space, name, host in ((other, f"x{n}", 2), (OWN, f"k{n}", 1)):
            address = f"10.97.{n}.{host}"
            ends.append(End(space, address, wrapped_environment(f"xdp:{name}", address, self.library)))
        return Link(*ends)

    def _gvisor(self, n, mtu=1500, offloads=True):
        other = Namespace()
        veth(n, f"k{n}", f"g{n}", other, mtu, other_address=False)
        if not offloads:
            plain(OWN, f"k{n}")
            plain(other, f"g{n}")
        options = ("-interface", f"g{n}", "-address", f"10.97.{n}.2/24",
                   f"-gso={'true' if offloads else 'false'}")
        return Link(End(other, f"10.97.{n}.2", None, "gvisor", options), End(OWN, f"10.97.{n}.1"))

    def _gvisor_plain(self, n):
        return self._gvisor(n, offloads=False)

    def _gvisor_plain_jumbo(self, n):
        return self._gvisor(n, mtu=JUMBO, offloads=False)

    def _lwip(self, n):
        tap(f"t{n}", f"10.97.{n}.1", queues=())  # its driver knows of none
        return Link(End(OWN, f"10.97.{n}.2", None, "lwip", (f"t{n}",)), End(OWN, f"10.97.{n}.1"))


JUMBO = 9000


def server_command(end, mode, port):
    """The command of a server of bench/load's protocols."""
    if end.peer == "gvisor":
        return [os.path.join(PEERS, "gvisor_server"), *end.options, "-port", str(port), mode]
    if end.peer == "lwip":
        return [os.path.join(PEERS, "lwip_server"), *end.options, mode, end.address,
                "255.255.255.0", str(port)]
    named = {"echo-server": ["echo-server", "--blocking"],
             "crr-server": ["echo-server", "--close", "--blocking"]}.get(mode, [mode])
    return [load_program(), *named, "--address", end.address, "--port", str(port)]


def load_program():
    return os.path.join(measure.ROOT, "build", "load")


def build_peers():
    """Builds the peers that can be built; returns {peer: why it cannot}."""
    os.makedirs(PEERS, exist_ok=True)
    absent = {}
    here = os.path.dirname(os.path.abspath(__file__))
    if shutil.which("go") is None or not os.path.isdir(GOCODE + "/src/gvisor.dev/gvisor"):
        absent["gvisor"] = "golang-go or golang-gvisor-gvisor-dev is not installed"
    else:
        absent.update(compile_peer("gvisor", os.path.join(here, "gvisor", "server.go"), [
            "go", "build", "-o"], [], {**os.environ, "GO111MODULE": "off", "GOPATH": GOCODE,
                                       "GOFLAGS": "", "GOCACHE": PEERS + "/go"}))
    if not os.path.isdir("/usr/include/lwip"):
        absent["lwip"] = "liblwip-dev is not installed"
    else:
        absent.update(compile_peer("lwip", os.path.join(here, "lwip", "server.cc"), [
            "g++", "-std=c++20", "-O2", "-I/usr/include/lwip", "-o"], ["-llwip", "-lpthread"],
                                   os.environ))
    return absent


def compile_peer(peer, source, command, libraries, environment):
    target = os.path.join(PEERS, peer + "_server")
    if os.path.exists(target) and os.path.getmtime(target) > os.path.getmtime(source):
        return {}
    done = subprocess.run([*command, target, source, *libraries], env=environment, check=False,
                          capture_output=True, text=True)
    if done.returncode == 0:
        return {}
    return {peer: "does not build: " + (done.stderr.strip().splitlines() or ["?"])[-1]}
