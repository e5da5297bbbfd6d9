"""What connections to MongoDB, MySQL and Redis servers ask for, counted as the bytes pass by."""
import subprocess

import pymongo
import pytest

from lib import documents as d
from lib import tcp
from lib.gateway import sluice
from lib.servers import (MARIADB, REDIS, Mongo, command, mariadb_server, needs, redis_server,
                         start)  # noqa: F401: start is a fixture
from lib.waiting import eventually

NUMBER = 31400
CLUSTER = "outbound|8080||app.default.svc.cluster.local"
ALL = ["--l4-stats", "mongo,mysql,redis"]


@pytest.fixture
def relay(serve):
    """relay(PROTOCOL, PORT): a gateway; its port for NUMBER is .relay."""
    def run(protocol, port, args=ALL):
        gateway = serve(d.l4_gateway((NUMBER, protocol, ["*"], None)),
                        d.l4_service("tcp", {"route": [d.to()]}), *d.backend(port),
                        numbers=[NUMBER], args=args)
        gateway.relay = gateway.ports[NUMBER]
        return gateway
    return run


def counts(gateway, metric, label):
    """{label's value: count} of the cluster; the listener has counted the same."""
    metrics = gateway.metrics()
    cluster = metrics.by(f"sluice_cluster_{metric}", label, cluster=CLUSTER)
    assert cluster == metrics.by(f"sluice_listener_{metric}", label,
                                 listener=f"0.0.0.0_{gateway.relay}")
    return cluster


def test_mongo_by_default(relay, backend):
    gateway = relay("MONGO", backend(Mongo().serve).port, args=[])
    with pymongo.MongoClient("127.0.0.1", gateway.relay, directConnection=True,
                             serverSelectionTimeoutMS=10_000) as client:
        rows = [{"_id": i, "text": "x" * 20_000} for i in range(100)]
        client.test.ratings.insert_many(rows)
        assert list(client.test.ratings.find()) == rows
        seen = counts(gateway, "mongo_ops_total", "op")
    assert seen["query"] == seen["reply"] > 0, "a hello for each connection"
    assert seen["msg"] >= seen["msg_reply"] >= 2, "an insert and a find"
    assert not counts(gateway, "decoding_errors_total", "protocol")
    gateway.wait_idle()


@needs(*MARIADB)
def test_mysql(relay, start, tmp_path):  # noqa: F811
    server = mariadb_server(start, tmp_path)
    gateway = relay("MYSQL", server.number)

    def mysql(statement, *options, password="password"):
        return command("mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", gateway.relay, "-uroot",
                       f"-p{password}", "-N", *options, "-e", statement)
    assert mysql("SELECT 1; SELECT 2").stdout == "1\n2\n"
    assert counts(gateway, "mysql_commands_total", "command") == {"query": 2, "quit": 1}
    assert "doesn't exist" in mysql("SELECT * FROM no.table").stderr
    assert "Access denied" in mysql("SELECT 1", password="wrong").stderr
    big = mysql("SELECT REPEAT('x', 3000000)")
    assert len(big.stdout) == 3_000_001
    seen = counts(gateway, "mysql_events_total", "event")
    assert (seen["session"], seen["login_attempt"]) == (4, 4)
    assert (seen["login_failure"], seen["error"]) == (1, 1)
    lines = tmp_path / "lines"
    lines.write_bytes(b"\x01\n" * 300_000)
    said = mysql("CREATE DATABASE t; CREATE TABLE t.x (a TEXT);"
                 f"LOAD DATA LOCAL INFILE '{lines}' INTO TABLE t.x; SELECT COUNT(*) FROM t.x",
                 "--local-infile=1")
    assert said.stdout == "300000\n", said.stderr
    before = counts(gateway, "mysql_commands_total", "command")
    assert before == {"query": 2 + 1 + 1 + 4, "quit": 4}
    assert mysql("SELECT 3", "--compress").stdout == "3\n", "not looked into"
    assert counts(gateway, "mysql_commands_total", "command") == before
    assert not counts(gateway, "decoding_errors_total", "protocol")
    gateway.wait_idle()
    server.release()


@needs(*REDIS)
def test_redis(relay, start, tmp_path):  # noqa: F811
    server = redis_server(start, tmp_path)
    gateway = relay("REDIS", server.number)

    def redis(*words, **kw):
        return subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", str(gateway.relay), *words],
                              capture_output=True, timeout=20, check=False, **kw).stdout.strip()
    big = b"*1\r\n$4\r\nPING\r\n" * 400_000
    assert redis("-x", "set", "big", input=big) == b"OK"
    assert redis("get", "big") == big.strip()
    assert b"WRONGTYPE" in redis("lpush", "big", "x")
    assert redis("-3", "hset", "h", "a", "1", "b", "2") == b"2"
    assert b"a" in redis("-3", "hgetall", "h")
    pipe = b"".join(b"SET key-%d %d\r\n" % (i, i) for i in range(20_000))
    assert b"errors: 0, replies: 20000" in redis("--pipe", input=pipe)
    seen = counts(gateway, "redis_commands_total", "command")
    assert seen["set"] == 20_001
    assert (seen["get"], seen["lpush"], seen["hset"], seen["hgetall"]) == (1, 1, 1, 1)
    assert gateway.metric("cluster_redis_errors_total", cluster=CLUSTER) == 1
    assert not counts(gateway, "decoding_errors_total", "protocol")
    gateway.wait_idle()
    server.release()


def test_bulk_is_looked_through(relay, backend):
    """The kernel moves bulk by itself (splice), but not what is counted."""
    value = b"*1\r\n$4\r\nPING\r\n" * (2 << 20)
    request = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$%d\r\n%s\r\n" % (len(value), value)

    def answer(peer):
        peer.receive(len(request))
        peer.send(b"+OK\r\n")
        tcp.says("+")(peer)
    app = backend(answer)
    gateway = relay("REDIS", app.port)
    with tcp.connect(gateway.relay) as client:
        client.send(request)
        assert client.receive(5) == b"+OK\r\n"
        assert tcp.ask(client, b"ECHO\n") == b"+ ECHO\n"
    assert counts(gateway, "redis_commands_total", "command") == {"set": 1, "echo": 1}
    assert gateway.metric("splice_total") == 0


@pytest.mark.parametrize("protocol", ["MONGO", "MYSQL", "REDIS"])
def test_what_cannot_be_read_is_relayed_all_the_same(relay, backend, protocol):
    gateway = relay(protocol, backend(tcp.says("got")).port)
    for words in (b"\x00\x01\xfe\xff garbage\n", b"GET / HTTP/1.1\r\n"):
        with tcp.connect(gateway.relay) as client:
            for _ in range(3):
                assert tcp.ask(client, words) == b"got " + words
    bad = counts(gateway, "decoding_errors_total", "protocol")
    assert bad[protocol.lower()] in (1, 2), "told once for each connection"
    gateway.wait_idle()


@pytest.mark.parametrize("args,counted", [([], False), (["--l4-stats", "mysql"], False),
                                          (["--l4-stats", "redis"], True),
                                          (["--l4-stats", "none"], False)])
def test_option(relay, backend, args, counted):
    gateway = relay("REDIS", backend(tcp.says("+")).port, args=args)
    with tcp.connect(gateway.relay) as client:
        assert tcp.ask(client, b"PING\n") == b"+ PING\n"
    assert counts(gateway, "redis_commands_total", "command") == ({"ping": 1} if counted else {})


def test_other_protocols_are_not_looked_at(relay, backend):
    gateway = relay("TCP", backend(tcp.says("+")).port)
    with tcp.connect(gateway.relay) as client:
        assert tcp.ask(client, b"PING\n") == b"+ PING\n"
    text = gateway.metrics().text
    assert "redis" not in text and "decoding" not in text


@pytest.mark.parametrize("value", ["", "http", "redis,", "mongo,none"])
def test_option_takes_protocols(value, tmp_path):
    run = sluice("run", "-f", tmp_path, "--l4-stats", value)
    assert run.returncode == 2
    assert "--l4-stats: " in run.stderr


def test_counts_outlive_reloads(relay, backend):
    """A connection that is open goes on counting for the cluster it was made for."""
    gateway = relay("REDIS", backend(tcp.says("+")).port)
    with tcp.connect(gateway.relay) as client:
        tcp.ask(client, b"PING\n")
        gateway.file.write_text(gateway.file.read_text() + "\n")
        gateway.signal(1)
        eventually(lambda: gateway.metric("config_generation") > 1, 5)
        tcp.ask(client, b"PING\n")
        assert counts(gateway, "redis_commands_total", "command") == {"ping": 2}
