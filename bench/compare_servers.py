"""Servers of bench/compare that are many processes: PostgreSQL, a process a connection, and apache2
prefork, whose children accept on one listener."""

import atexit
import dataclasses
import glob
import os
import re
import shutil
import subprocess
import tempfile

import compare_net
import measure
from compare_work import Application, Failure, start, wrk

NOBODY = "65534"  # PostgreSQL refuses to be root
CLIENTS = {1: 1, 8: 2}  # connections: pgbench's threads


def postgres_program(name):
    """Debian keeps these out of PATH, in a directory a version."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + name), key=os.path.getmtime)
    return found[-1] if found else name


def as_nobody(*command):
    return ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", *command]


class Database:
    """A directory with pgbench's tables (scale 2), made once a run, by a server of the kernel's."""

    made = None

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="bench-postgres-")
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        os.chown(self.directory, int(NOBODY), int(NOBODY))
        self.data = self.directory + "/data"
        self._run(postgres_program("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust",
                  "--no-sync")
        with open(self.data + "/pg_hba.conf", "a", encoding="ascii") as file:
            file.write("host all all 0.0.0.0/0 trust\n")
        control = postgres_program("pg_ctl")
        options = f"-c listen_addresses= -c unix_socket_directories={self.directory} -c fsync=off"
        self._run(control, "-D", self.data, "-w", "-s", "-l", self.directory + "/log", "-o", options,
                  "start")
        try:
            self._run(postgres_program("pgbench"), "-h", self.directory, "-U", "postgres", "-i", "-q",
                      "-s", "2", "postgres")
        finally:
            self._run(control, "-D", self.data, "-w", "-s", "-m", "fast", "stop")

    def _run(self, *command):
        try:
            subprocess.run(as_nobody(*command), check=True, text=True, cwd=self.directory,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
        except subprocess.TimeoutExpired:
            raise Failure(f"{command[0]} hung") from None

    @classmethod
    def get(cls):
        if cls.made is None:
            cls.made = cls()
        return cls.made


def unprivileged(end, command):
    """(end, command) that run it as nobody; where it is wrapped, with a device that root opened."""
    if not end.wrapped:
        return end, as_nobody(*command)
    environment = dict(end.environment)
    library = environment.pop("LD_PRELOAD")
    opener = os.path.join(measure.ROOT, "build", "userstack-open")
    return (dataclasses.replace(end, environment=environment),
            [opener, "--user", NOBODY, environment["USERSTACK_DEV"], "env", "LD_PRELOAD=" + library,
             *command])


def postgres(connections):
    """SELECTs of one row by its key, as fast as they are answered."""
    def work(link, options):
        data = Database.get().data
        address = link.server.address
        end, command = unprivileged(link.server, [
            postgres_program("postgres"), "-D", data, "-c", "listen_addresses=" + address, "-c",
            "unix_socket_directories=", "-c", "fsync=off", "-c", "log_min_messages=fatal"])
        seconds = max(round(options.seconds), 1)
        with Application(compare_net.Link(end, link.client), command, 5432) as server:
            ready = [postgres_program("pg_isready"), "-q", "-h", address, "-t", "1"]
            if not measure.until(lambda: start(link.client, ready).wait() == 0):
                raise Failure("postgres listens, and accepts no connection")
            out, busy = server.client(
                [postgres_program("pgbench"), "-h", address, "-U", "postgres", "-S", "-n", "-c",
                 str(connections), "-j", str(CLIENTS[connections]), "-T", str(seconds), "postgres"],
                seconds)
        rate = re.search(r"tps = ([0-9.]+)", out)
        count = re.search(r"transactions actually processed: ([0-9]+)", out)
        failed = re.search(r"number of failed transactions: ([0-9]+)", out)
        if not rate or not count or int(count[1]) == 0 or (failed and int(failed[1]) != 0):
            raise Failure(f"pgbench: {out[-300:]}")
        return {"rate": float(rate[1]), "cpu": busy * 1e6 / int(count[1])}
    return work


APACHE = """ServerRoot {0}
ServerName bench
PidFile {0}/pid
ErrorLog {0}/error.log
LogLevel crit
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
Mutex file:{0} default
User nobody
Group nogroup
Listen {1}:8080
KeepAlive Off
StartServers 8
MinSpareServers 8
MaxSpareServers 32
DocumentRoot {0}/www
"""


def prefork(size):
    """A connection for each request, accepted by whichever child comes first."""
    def work(link, options):
        directory = tempfile.mkdtemp(prefix="bench-apache-")
        try:
            os.chmod(directory, 0o755)
            os.mkdir(directory + "/www")
            with open(directory + "/www/file", "wb") as file:
                file.write(os.urandom(size))
            with open(directory + "/conf", "w", encoding="ascii") as file:
                file.write(APACHE.format(directory, link.server.address))
            # Its parent ends its whole process group, which would be ours.
            command = ["setsid", "apache2", "-f", directory + "/conf", "-DFOREGROUND"]
            with Application(link, command, 8080) as server:
                return wrk(server, 16, link, options)
        finally:
            shutil.rmtree(directory)
    return work
