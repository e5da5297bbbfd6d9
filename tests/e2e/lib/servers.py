"""Servers of other protocols, as processes of their own or in this one."""
import shutil
import struct
import subprocess
import threading

import bson
import pytest

from lib import tcp
from lib.ports import ReservedPort
from lib.waiting import eventually

MARIADB = "mariadbd", "mariadb", "mariadb-install-db"
REDIS = "redis-cli", "redis-check-rdb"
MIB = 1 << 20


@pytest.fixture
def start():
    """start(ARGV, ready=FUNCTION): a server of its own process, once it is ready."""
    running = []

    def run(argv, ready, **kw):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, **kw)
        running.append(process)

        def is_ready():
            assert process.poll() is None, f"{argv[0]} ended: {process.returncode}"
            return ready()
        eventually(is_ready, 30, argv[0])
        return process
    yield run
    for process in running:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def needs(*commands):
    missing = [c for c in commands if not shutil.which(c)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def command(*argv, timeout=20):
    return subprocess.run([*map(str, argv)], capture_output=True, text=True, timeout=timeout,
                          check=False)


def answers(port):
    try:
        tcp.connect(port).close()
    except OSError:
        return False
    return True


def mariadb_server(start, folder):
    """The port of one whose root has the password `password`, by TCP."""
    data, port, init = folder / "data", ReservedPort(), folder / "init.sql"
    made = command("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db",
                   "--auth-root-authentication-method=normal", "--user=root", timeout=60)
    assert made.returncode == 0, made.stderr
    init.write_text("CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY 'password';\n"
                    "GRANT ALL ON *.* TO root@'127.0.0.1';\n")
    start(["mariadbd", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-name-resolve",
           "--bind-address=127.0.0.1", f"--port={port.number}", f"--init-file={init}",
           f"--socket={folder}/s", f"--pid-file={folder}/pid",
           "--innodb-buffer-pool-size=8M"], ready=lambda: answers(port.number))
    return port


def redis_server(start, folder):
    port = ReservedPort()
    # Debian has one file for these, which is what it was called.
    start(["redis-server", "--port", str(port.number), "--bind", "127.0.0.1", "--save", "",
           "--dir", str(folder)], executable=shutil.which("redis-check-rdb"),
          ready=lambda: answers(port.number))
    return port


def nginx_server(start, folder, port, cert, key):
    """By TLS; it answers with the name that was asked for."""
    paths = "".join(f"{kind}_temp_path {folder}/nginx-{kind};"
                    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port} ssl;"
        f"ssl_certificate {cert}; ssl_certificate_key {key};"
        'location / { return 200 "nginx for $ssl_server_name\\n"; } } }\n')
    start(["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)],
          ready=lambda: answers(port))


class Mongo:
    """As much of a MongoDB server as pymongo needs for insert and find, by OP_MSG (and OP_QUERY for
    the first hello)."""

    def __init__(self):
        self.collections, self.lock = {}, threading.Lock()

    def serve(self, peer):
        while True:
            head = peer.socket.recv(4, 0x100)  # MSG_WAITALL
            if len(head) < 4:
                return
            size, = struct.unpack("<i", head)
            request, _, code = struct.unpack("<iii", peer.receive(12))
            body = peer.receive(size - 16)
            if code == 2004:
                name_end = body.index(b"\0", 4) + 1
                reply = self.answer(bson.decode(body[name_end + 8:]))
                out = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(reply)
                peer.send(struct.pack("<iiii", 16 + len(out), 1, request, 1) + out)
            else:
                assert code == 2013, code
                out = bson.encode(self.answer(self.command(body)))
                peer.send(struct.pack("<iiiiIB", 21 + len(out), 1, request, 2013, 0, 0) + out)

    @staticmethod
    def command(body):
        """The sections of an OP_MSG: the body, and sequences of documents."""
        out, at = {}, 4
        while at < len(body):
            kind, at = body[at], at + 1
            size, = struct.unpack_from("<i", body, at)
            if kind == 0:
                out |= bson.decode(body[at:at + size])
            else:
                name_end = body.index(b"\0", at + 4)
                out[body[at + 4:name_end].decode()] = bson.decode_all(
                    body[name_end + 1:at + size])
            at += size
        return out

    def answer(self, command):
        verb = next(iter(command)).lower()
        if verb in ("hello", "ismaster"):
            return {"ok": 1, "helloOk": True, "isWritablePrimary": True, "ismaster": True,
                    "minWireVersion": 0, "maxWireVersion": 17, "maxBsonObjectSize": 16 * MIB,
                    "maxMessageSizeBytes": 48 * MIB, "maxWriteBatchSize": 100_000,
                    "logicalSessionTimeoutMinutes": None, "readOnly": False}
        name = command.get(verb)
        with self.lock:
            rows = self.collections.setdefault(name, [])
            if verb == "insert":
                rows += command["documents"]
                return {"ok": 1, "n": len(command["documents"])}
            if verb == "find":
                return {"ok": 1, "cursor": {"id": 0, "ns": f"test.{name}", "firstBatch": rows}}
        return {"ok": 1}
