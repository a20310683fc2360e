"""The workloads of bench/compare: each runs one server and one client over a link for some seconds
and returns what it measured, after proof of which stack carried the bytes."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import compare_net
import measure

PORT = 7000


class Failure(Exception):
    """A run that gave no figure, and why."""


def start(end, command, core=None, **options):
    """Runs it at that end of the link, on that core or on those of the end when they are named."""
    environment = end.environment or os.environ
    cores = end.cores if core is None else {core}

    def prepare():
        compare_net.die_with_parent()
        if cores and os.cpu_count() > 1:
            os.sched_setaffinity(0, cores)

    return subprocess.Popen([*end.space.prefix, *prefix_environment(environment, command)],
                            env=os.environ if end.space.prefix else environment,
                            preexec_fn=prepare, text=True, **options)


def prefix_environment(environment, command):
    """nsenter runs without the library; the program behind it gets its environment by env(1)."""
    different = [f"{name}={value}" for name, value in environment.items()
                 if os.environ.get(name) != value]
    return ["env", *different, *command] if different else command


@contextlib.contextmanager
def running(process):
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def first_line(process, wanted, what, seconds=10):
    """Waits for the line by which a server says that it listens."""
    found = []

    def look():
        for line in process.stdout:
            if line.startswith(wanted):
                found.append(line)
                return

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    reader.join(seconds)
    if not found:
        process.kill()
        raise Failure(f"{what} did not start: {(process.stderr.read() or 'no message')[-300:].strip()}")


def finish(process, seconds, what):
    try:
        out, error = process.communicate(timeout=seconds * 3 + 20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failure(f"{what} hung") from None
    if process.returncode != 0:
        raise Failure(f"{what}: {(error or out)[-300:].strip()}")
    return out


class Proof:
    """Which stack carried a run, by the counters of the kernels at both ends: a kernel's end must have
    moved its counter, a wrapped one's and a peer's must not."""

    def __init__(self, link, server_counter, client_counter):
        self._watched = [(link.server, server_counter), (link.client, client_counter)]
        self._before = [end.counters()[name] for end, name in self._watched]

    def check(self):
        for (end, name), before in zip(self._watched, self._before):
            moved = end.counters()[name] - before
            foreign = end.wrapped or end.peer
            if foreign and moved > 0:
                raise Failure(f"the kernel carried what the library should have: {name} +{moved}")
            if not foreign and moved == 0:
                raise Failure(f"the kernel's {name} did not move")


def tcp_proof(link):
    return Proof(link, "Tcp:PassiveOpens", "Tcp:ActiveOpens")


def timing(options):
    return ["--seconds", str(options.seconds), "--warmup", str(options.warmup)]


def load_pair(link, options, server_mode, client, cores=(None, None)):
    """A server of ours and the load program against it: the client's JSON. `cores` are the client's
    and the server's."""
    command = compare_net.server_command(link.server, server_mode, PORT)
    proof = tcp_proof(link)
    with running(start(link.server, command, cores[1], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)) as server:
        first_line(server, "ready", server_mode)
        run = [compare_net.load_program(), *client, "--address", link.server.address, "--port",
               str(PORT), *timing(options)]
        with running(start(link.client, run, cores[0], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)) as process:
            out = finish(process, options.seconds, client[0])
    proof.check()
    return json.loads(out)


def bulk(*arguments):
    def work(link, options):
        got = load_pair(link, options, "bulk-server", ["bulk", *arguments])
        return {"rate": got["bits_per_second"] / 1e9, "cpu": got["cpu_ns_per_byte"]}
    return work


def iperf(*arguments):
    """The same by iperf3, which people know: one thread for all streams, select(2)."""
    def work(link, options):
        server = ["iperf3", "--server", "--one-off", "--port", "5201", "--forceflush", "--bind",
                  link.server.address]
        proof = tcp_proof(link)
        with running(start(link.server, server, stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as it:
            first_line(it, "Server listening", "iperf3 --server")
            busy = measure.busy_seconds()
            with running(start(link.client, ["iperf3", "--client", link.server.address, "--port", "5201",
                                             "--json", "--time", str(max(round(options.seconds), 1)),
                                             *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as client:
                out = finish(client, options.seconds, "iperf3 --client")
            busy = measure.busy_seconds() - busy
        proof.check()
        got = json.loads(out)["end"]["sum_received"]
        return {"rate": got["bits_per_second"] / 1e9, "cpu": busy * 1e9 / max(got["bytes"], 1)}
    return work


def pingpong(*cores):
    """With cores, client and server never share one, as two machines do not; without, the scheduler
    sometimes puts both on one core, where a wake-up costs a tenth."""
    def work(link, options):
        got = load_pair(link, options, "echo-server", ["pingpong"], cores or (None, None))
        return {"p50": got["p50_us"], "p99": got["p99_us"], "p999": got["p999_us"],
                "cpu": got["cpu_us_per_request"]}
    return work


def crr(in_flight):
    def work(link, options):
        got = load_pair(link, options, "crr-server", ["crr", "--in-flight", str(in_flight)])
        return {"rate": got["per_second"], "cpu": got["cpu_us_per_request"]}
    return work


def udp(server_sends, batch):
    """The server's end is the one that is measured: it floods or it is the sink."""
    def work(link, options):
        sink_end, flood_end = ((link.client, link.server) if server_sends
                               else (link.server, link.client))
        load = [compare_net.load_program()]
        to = ["--address", sink_end.address, "--port", str(PORT), "--batch", str(batch)]
        proof = Proof(compare_net.Link(sink_end, flood_end), "Udp:InDatagrams", "Udp:OutDatagrams")
        with running(start(sink_end, [*load, "udp-sink", *to, *timing(options)],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as sink:
            first_line(sink, "ready", "udp-sink")
            flood_time = ["--warmup", "0.2", "--seconds", str(options.seconds + options.warmup)]
            with running(start(flood_end, [*load, "udp-flood", *to, *flood_time],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)) as flood:
                out = finish(sink, options.seconds, "udp-sink")
                sent = json.loads(finish(flood, options.seconds, "udp-flood"))
        proof.check()
        got = json.loads(out)
        return {"rate": got["per_second"], "cpu": got["cpu_us_per_packet"],
                "sent": sent["sent_per_second"]}
    return work


def answers(address, port):
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


class Application:
    """A real server under the kernel or the library; the client is on this namespace's kernel."""

    def __init__(self, link, command, port):
        self.link, self.port = link, port
        self.proof = tcp_proof(link)
        self.process = start(link.server, command, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)

    def __enter__(self):
        if not measure.until(lambda: answers(self.link.server.address, self.port)):
            self.process.kill()
            raise Failure(f"{self.process.args[-1]} did not start: {self.process.stderr.read()[-300:]}")
        return self

    def client(self, command, seconds):
        """Runs it; its output, and CPU seconds of the whole machine meanwhile."""
        busy = measure.busy_seconds()
        process = start(self.link.client, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with running(process):
            out = finish(process, seconds, command[0])
        return out, measure.busy_seconds() - busy

    def __exit__(self, failed, *_):
        with running(self.process):
            pass
        if failed is None:
            self.proof.check()


REDIS_GUESS = {1: 150_000, 16: 1_800_000}  # requests a second, to make runs about as long as asked


def redis(test, pipeline):
    def work(link, options):
        server = ["redis-server", "--port", "6379", "--bind", link.server.address, "--save", "",
                  "--appendonly", "no", "--protected-mode", "no", "--loglevel", "warning"]
        count = max(int(REDIS_GUESS[pipeline] * options.seconds), 1000)
        with Application(link, server, 6379) as running_server:
            out, busy = running_server.client(
                ["redis-benchmark", "-h", link.server.address, "-p", "6379", "-t", test, "-n",
                 str(count), "-c", "50", "-P", str(pipeline), "--csv"], options.seconds)
        found = re.search(r'^"[^"]+","([0-9.]+)"', out, re.M)
        if not found:
            raise Failure(f"redis-benchmark: {out[-200:]}")
        return {"rate": float(found[1]), "cpu": busy * 1e6 / count}
    return work


def memcached(*arguments, threads=1):
    def work(link, options):
        server = ["memcached", "-U", "0", "-l", link.server.address, "-p", "11211", "-t",
                  str(threads), "-u", "root"]
        with Application(link, server, 11211) as running_server:
            out, _ = running_server.client(
                [compare_net.load_program(), "memcached", "--in-flight", "50", "--address",
                 link.server.address, "--port", "11211", *arguments, *timing(options)],
                options.seconds)
        got = json.loads(out)
        return {"rate": got["per_second"], "cpu": got["cpu_us_per_request"]}
    return work


NGINX = """daemon off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;
  uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
  server {{ listen {1}:8080; root {0}; }} }}
"""


def wrk(server, connections, link, options):
    """Requests for the server's /file, and what a request costs."""
    seconds = max(round(options.seconds), 1)
    out, busy = server.client(["wrk", "-t", "1", "-c", str(connections), "-d", str(seconds),
                               f"http://{link.server.address}:8080/file"], seconds)
    rate = re.search(r"Requests/sec: +([0-9.]+)", out)
    count = re.search(r"([0-9]+) requests in", out)
    if not rate or not count or "Non-2xx" in out or float(rate[1]) == 0:
        raise Failure(f"wrk: {out[-300:]}")
    return {"rate": float(rate[1]), "cpu": busy * 1e6 / int(count[1])}


def nginx(size):
    def work(link, options):
        directory = tempfile.mkdtemp(prefix="bench-nginx-")
        os.chmod(directory, 0o755)
        try:
            with open(directory + "/file", "wb") as file:
                file.write(os.urandom(size))
            with open(directory + "/conf", "w", encoding="ascii") as file:
                file.write(NGINX.format(directory, link.server.address))
            server = ["nginx", "-e", directory + "/error.log", "-c", directory + "/conf"]
            with Application(link, server, 8080) as running_server:
                return wrk(running_server, 50, link, options)
        finally:
            shutil.rmtree(directory)
    return work


def idle_share(seconds=0.25):
    """Cores that others keep busy while nothing of ours runs."""
    before = measure.busy_seconds()
    time.sleep(seconds)
    return (measure.busy_seconds() - before) / seconds
