"""The options of `sluice run`, one by one, wrong values of each, and the commands beside it."""
import contextlib
import json
import os
import re
import socket

import pytest

from lib import documents as d, sandbox
from lib.gateway import sluice
from lib.http1 import fetch
from lib.waiting import eventually

OFF = ["--admin", "0", "--status-port", "0", "--metrics-port", "0"]


def saying(text, **kw):
    return d.virtual_service(d.rule(directResponse={"status": 200, "body": {"string": text}}), **kw)


@pytest.fixture
def docs():
    return [d.gateway(), saying("here")]


def threads(gateway):
    folder = f"/proc/{gateway.pid}/task"
    names = []
    for task in os.listdir(folder):
        with open(f"{folder}/{task}/comm") as f:
            names.append(f.read().strip())
    return sorted(n for n in names if n.startswith("worker-"))


def listening_ports(gateway):
    """The TCP ports that process listens on, from the kernel."""
    inodes = {os.readlink(f"/proc/{gateway.pid}/fd/{fd}") for fd in
              os.listdir(f"/proc/{gateway.pid}/fd") if fd.isdigit()}
    ports = []
    for name in ("tcp", "tcp6"):
        with open(f"/proc/{gateway.pid}/net/{name}") as f:
            for line in f.readlines()[1:]:
                field = line.split()
                if field[3] == "0A" and f"socket:[{field[9]}]" in inodes:
                    ports.append(int(field[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


# ---- each option

@pytest.mark.parametrize("count", [1, 3])
def test_workers(serve, docs, count):
    gateway = serve(*docs, workers=count)
    assert threads(gateway) == [f"worker-{i}" for i in range(count)]
    assert gateway.metric("workers") == count
    # each has a socket of its own on the port
    assert listening_ports(gateway).count(gateway.port) == count


def test_workers_default_is_one_for_each_usable_core(serve, docs):
    gateway = serve(*docs, workers=None)
    assert gateway.metric("workers") == len(threads(gateway)) <= len(os.sched_getaffinity(0))


def test_labels_choose_the_gateways(serve):
    """A Gateway is served when its selector is part of the labels; without labels all are."""
    other = d.gateway(name="other", number=81)
    other["spec"]["selector"] = {"istio": "egress", "tier": "b"}
    docs = [d.gateway(), saying("in"), other, saying("out", name="vs2", gateways=["other"])]

    def served(*args):
        gateway = serve(*docs, numbers=(80, 81), args=args)
        ports = set(listening_ports(gateway)) & set(gateway.ports.values())
        return {number for number, port in gateway.ports.items() if port in ports}

    assert served("--labels", "istio=ingressgateway,app=x") == {80}
    assert served("--labels", "istio=nobody") == set()
    assert 80 in served()


def test_ports_that_are_off(serve, docs):
    gateway = serve(*docs, args=OFF, wait=False)
    assert gateway.log.wait(r"\bevent=ready\b", 20), gateway.log_text()
    assert set(listening_ports(gateway)) == {gateway.port}
    assert gateway.fetch("/").body == b"here"


def test_status_and_metrics_may_name_an_address(serve, docs):
    """ADDR:PORT as well as PORT; port 0 of an address is any port, and it is logged."""
    gateway = serve(*docs, args=["--status-port", "127.0.0.1:0", "--metrics-port", "127.0.0.1:0"])
    ports = {}
    for name in ("status", "metrics"):
        m = gateway.log.wait(rf"event=listening name={name} addr=127\.0\.0\.1:(\d+)", 1)
        ports[name] = int(m[1])
    assert fetch(ports["status"], "/healthz/ready", host="localhost").status == 200
    metrics = fetch(ports["metrics"], "/stats/prometheus", host="localhost")
    assert b"\nsluice_ready 1\n" in metrics.body


def test_admin_answers_and_only_there(serve, docs):
    gateway = serve(*docs)
    port = int(gateway.admin.rsplit(":", 1)[1])
    for page in ("/", "/routes", "/stats/prometheus", "/config_dump", "/ready"):
        assert fetch(port, page, host="localhost").status == 200, page
    assert fetch(gateway.status_port, "/routes", host="localhost").status == 404
    assert fetch(gateway.metrics_port, "/healthz/ready", host="localhost").status == 404


def test_no_http3(serve, docs):
    """Nothing is bound on UDP, and nothing is asked about UDP."""
    gateway = serve(*docs, args=["--no-http3"])
    assert "item=udp_offload" not in gateway.log_text()
    inodes = {os.readlink(f"/proc/{gateway.pid}/fd/{fd}")
              for fd in os.listdir(f"/proc/{gateway.pid}/fd")}
    for name in ("udp", "udp6"):
        with open(f"/proc/{gateway.pid}/net/{name}") as f:
            assert not [x for x in f.readlines()[1:] if f"socket:[{x.split()[9]}]" in inodes]
    assert gateway.fetch("/").body == b"here"


@pytest.mark.parametrize("value", ["auto", "on", "off"])
def test_ktls(serve, docs, value):
    """Never a failure: what the kernel lacks is one log line, and none when it is not wanted."""
    gateway = serve(*docs, args=["--ktls", value])
    lines = [x for x in gateway.log.lines if "item=ktls" in x]
    assert len(lines) == (0 if value == "off" else 1), lines
    if lines and "status=note" in lines[0]:
        assert ("--ktls on cannot be had" in lines[0]) == (value == "on"), lines
    assert gateway.fetch("/").body == b"here"


@pytest.mark.parametrize("level, said, unsaid", [
    ("debug", {"info"}, set()), ("info", {"info"}, {"debug"}),
    ("warn", set(), {"debug", "info"}), ("error", set(), {"debug", "info", "warn"}),
    ("off", set(), {"debug", "info", "warn", "error"})])
def test_log_level(serve, docs, level, said, unsaid):
    gateway = serve(*docs, args=["--log-level", level], wait=False)

    def ready():
        try:
            return fetch(gateway.status_port, "/healthz/ready", host="localhost").status == 200
        except OSError:
            return False

    eventually(ready, 20)
    gateway.stop()
    levels = set(re.findall(r"\blevel=(\w+)", gateway.log_text()))
    assert said <= levels and not unsaid & levels, gateway.log_text()


def test_several_documents_and_namespaces(serve, tmp_path):
    """-n holds for what follows it; a folder is read with its sub-folders."""
    ports = serve.ports(80)
    deep = tmp_path / "b" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "node.yaml").write_text(d.text(d.node(ports)))

    def without_namespace(document):
        del document["metadata"]["namespace"]
        return document

    (tmp_path / "gw.yaml").write_text(d.text(without_namespace(d.gateway())))
    (tmp_path / "a.yaml").write_text(d.text(without_namespace(
        saying("a", hosts=["a.test"], gateways=["front/gw"]))))
    (deep / "b.yml").write_text(d.text(without_namespace(
        saying("b", hosts=["b.test"], gateways=["front/gw"]))))
    gateway = serve.command([(None, tmp_path / "node.yaml"), ("front", tmp_path / "gw.yaml"),
                             ("one", tmp_path / "a.yaml"), ("two", tmp_path / "b")], ports)
    gateway.wait_ready()
    assert [gateway.fetch("/", host=f"{x}.test").body for x in "ab"] == [b"a", b"b"]
    dump = json.loads(fetch(int(gateway.admin.rsplit(":", 1)[1]), "/config_dump",
                            host="localhost").body)
    text = json.dumps(dump)
    assert "vs.one" in text and "vs.two" in text and "front/gw" in text


# ---- wrong values

@pytest.mark.parametrize("args, says", [
    (["--workers", "0"], "--workers: '0' is not a number from 1 to "),
    (["--workers", "-1"], "--workers: '-1' is not a number from 1 to "),
    (["--workers", "100000"], "--workers: '100000' is not a number from 1 to "),
    (["--workers"], "--workers needs a value"),
    (["--labels", "istio"], "--labels: 'istio' is not KEY=VALUE"),
    (["--admin", "here"], "--admin: 'here' is neither a port nor ADDRESS:PORT"),
    (["--admin", "127.0.0.1:70000"], "--admin: '127.0.0.1:70000' is neither"),
    (["--status-port", "70000"], "--status-port: '70000' is neither a port"),
    (["--metrics-port", "x"], "--metrics-port: 'x' is neither a port"),
    (["--no-http3=yes"], "--no-http3 takes no value"),
    (["--ktls", "perhaps"], "--ktls: 'perhaps' is none of auto, on, off"),
    (["--drain-time", "soon"], "--drain-time: 'soon' is not a duration such as 30s or 1m30s"),
    (["--head-timeout", "0s"], "--head-timeout: it cannot be 0"),
    (["--udp-idle-timeout", "0"], "--udp-idle-timeout: it cannot be 0"),
    (["--udp-sessions", "0"], "--udp-sessions: '0' is not a number from 1 to 2147483647"),
    (["--idle-timeout", "never"], "--idle-timeout: 'never' is not a duration such as 30s or 1m30s"),
    (["--stall-timeout", "5x"], "--stall-timeout: '5x' is not a duration"),
    (["--drain-time", "-1s"], "--drain-time: '-1s' is not a duration"),
    (["--log-level", "loud"], "--log-level: 'loud' is none of debug, info, warn, error, off"),
    (["--access-log-format", "json"], "--access-log-format needs --access-log"),
    (["--access-log", "-", "--access-log-format", "plain"], "'plain' is neither text, json, nor"),
    (["-n", "A_b"], "-n: 'A_b' is no namespace"),
    (["--worker", "2"], "unknown flag --worker; did you mean --workers?"),
    (["here.yaml"], "run: 'here.yaml' is not expected here (a file is given with -f)")])
def test_a_wrong_value_is_told(args, says):
    result = sluice("run", "-f", "/", *args)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("sluice: ") and says in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_wrong_access_log_is_told(tmp_path):
    path = tmp_path / "docs.yaml"
    path.write_text(d.text(d.gateway()))
    result = sluice("run", "-f", path, *OFF, "--access-log", tmp_path / "none" / "log")
    assert result.returncode == 1
    assert f"the access log {tmp_path}/none/log cannot be opened: No such file" in result.stderr
    result = sluice("run", "-f", path, *OFF, "--access-log", "-", "--access-log-format", "%NO%")
    assert result.returncode == 1 and "unknown operator %NO%" in result.stderr


# ---- ports that cannot be had

@pytest.fixture
def on_port(tmp_path):
    """`sluice run` with its one listener on that port; it is expected to refuse."""
    def run(port, **kw):
        path = tmp_path / "docs.yaml"
        path.write_text(d.text(d.node({80: port}), d.gateway(), saying("here")))
        result = sluice("run", "-f", path, *OFF, "--workers", "1", **kw)
        assert result.returncode == 1 and "event=ready" not in result.stderr
        return result.stderr
    return run


def taken_text(port, ip="0.0.0.0"):
    return (re.escape(f"cannot listen on {ip}:{port}: another process has the port: end it ")
            + r"\(ss -ltunp names it\)")


def test_a_listener_port_in_use(on_port):
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        stderr = on_port(port)
    assert re.search(rf"/docs\.yaml:\d+:\d+: error: Gateway default/gw: {taken_text(port)}, or let "
                     r"targetPort of the gateway's Service map the port to another\n", stderr), stderr
    assert "sluice: not started: 1 error\n" in stderr


def test_a_second_gateway_on_a_port_is_refused(on_port, serve, docs):
    """It would share the port with the first one, unnoticed (SO_REUSEPORT)."""
    gateway = serve(*docs)
    taken = taken_text(gateway.port)
    assert re.search(taken, on_port(gateway.port))
    both = sluice("run", "-f", gateway.folder, *OFF, "--admin", gateway.admin).stderr
    assert re.search(taken, both) and f"error: cannot listen on {gateway.admin}: another" in both
    assert gateway.fetch("/").body == b"here"


def test_a_reload_to_a_port_in_use_keeps_what_was(serve, docs):
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        gateway = serve(*docs)
        (gateway.folder / "node.yaml").write_text(d.text(d.node({80: port})))
        assert gateway.log.wait(rf"\d+:\d+: error: Gateway default/gw: {taken_text(port)}", 5)
        gateway.wait_metric("config_reload_failures", 1)
        assert gateway.fetch("/").body == b"here"


def unprivileged_from():
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        return int(f.read())


@pytest.mark.skipif(unprivileged_from() < 2, reason="no port is privileged on this machine")
def test_a_privileged_port(on_port):
    drop = sandbox.without(sandbox.CAP_NET_BIND_SERVICE) if os.geteuid() == 0 else None
    stderr = on_port(1, preexec_fn=drop)
    assert re.search(r"/docs\.yaml:\d+:\d+: error: Gateway default/gw: cannot listen on 0\.0\.0\.0:1: "
                     r"the port is privileged \(below ", stderr), stderr
    assert "CAP_NET_BIND_SERVICE" in stderr and "targetPort" in stderr


@pytest.mark.parametrize("flag", ["--admin", "--status-port", "--metrics-port"])
def test_an_admin_port_in_use(tmp_path, serve, flag):
    path = tmp_path / "docs.yaml"
    path.write_text(d.text(d.node(serve.ports(80)), d.gateway(), saying("here")))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = sluice("run", "-f", path, *OFF, flag, f"127.0.0.1:{port}")
    assert result.returncode == 1
    assert re.search(rf"^error: {taken_text(port, '127.0.0.1')}, or choose another with {flag}$",
                     result.stderr, re.M), result.stderr


def test_every_port_in_use_is_told_at_once(tmp_path):
    path = tmp_path / "docs.yaml"
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("0.0.0.0", 0))).getsockname()[1]
                 for _ in range(4)]
        path.write_text(d.text(d.node({80: taken[0]}), d.gateway(), saying("here")))
        result = sluice("run", "-f", path, "--workers", "1", "--admin", taken[1],
                        "--status-port", taken[2], "--metrics-port", taken[3])
    assert result.returncode == 1
    for port in taken:
        assert re.search(rf"error: .*cannot listen on \S+:{port}: another process", result.stderr)
    assert "sluice: not started: 4 errors\n" in result.stderr


# ---- the other commands

COMMANDS = ["run", "analyze", "proxy-config", "explain", "version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command):
    pages = [sluice(command, "--help"), sluice("help", command), sluice(command, "-h")]
    for page in pages:
        assert page.returncode == 0 and page.stderr == ""
        assert page.stdout.startswith(f"usage: sluice {command}")
        assert page.stdout == pages[0].stdout
    assert command in sluice("--help").stdout


def test_every_option_is_in_the_help():
    """What the help names is taken, and what the README names is in the help."""
    page = sluice("run", "--help").stdout
    flags = set(re.findall(r"(--[a-z][a-z0-9-]+)", page))
    assert flags >= {"--workers", "--labels", "--admin", "--status-port", "--metrics-port",
                     "--no-http3", "--ktls", "--drain-time", "--log-level", "--access-log",
                     "--access-log-format", "--strict", "--filename", "--namespace"}
    for flag in flags:
        assert "unknown flag" not in sluice("run", flag).stderr, flag


def test_version_says_one_line():
    for args in (["version"], ["--version"]):
        result = sluice(*args)
        assert re.fullmatch(r"sluice \d+\.\d+\.\d+\S*\n", result.stdout) and result.returncode == 0


# ---- explain, which needs no gateway

@pytest.fixture
def explain(tmp_path):
    path = tmp_path / "docs.yaml"
    path.write_text(d.text(
        d.gateway("shop.test", "*.shop.test"),
        d.virtual_service(
            d.rule({"uri": {"prefix": "/app"}, "headers": {"x-beta": {"exact": "yes"}}},
                   route=[d.to(subset="v2")], name="beta"),
            d.rule({"uri": {"prefix": "/app"}}, rewrite={"uri": "/inner"}, name="app-route",
                   route=[d.to(weight=90, subset="v1"), d.to(weight=10, subset="v2")]),
            d.rule({"uri": {"exact": "/old"}}, redirect={"uri": "/new"}),
            d.rule({"uri": {"exact": "/gone"}}, directResponse={"status": 410}),
            d.rule({"uri": {"exact": "/ghost"}}, route=[d.to("ghost")]), hosts=["shop.test"]),
        d.destination_rule("app", subsets=[{"name": "v1", "labels": {"v": "1"}},
                                           {"name": "v2", "labels": {"v": "2"}}]),
        d.service(), {"apiVersion": "v1", "kind": "Pod",
                      "metadata": {"name": "p", "namespace": "default",
                                   "labels": {"app": "app", "v": "1"}},
                      "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]},
                      "status": {"podIP": "127.0.0.9", "phase": "Running",
                                 "conditions": [{"type": "Ready", "status": "True"}]}}))

    def run(host, target, *args, status=0):
        result = sluice("explain", "--host", host, "--path", target, "-f", path, *args)
        assert result.returncode == status, result.stderr
        return result.stdout
    run.path = path
    return run


def test_explain_a_forwarded_request(explain):
    out = explain("shop.test", "/app/x?q=1")
    line = next(i for i, text in enumerate(explain.path.read_text().splitlines(), 1)
                if "app-route" in text)
    assert re.search(r"^listener +0\.0\.0\.0:80 \(server port 80, ", out, re.M), out
    assert re.search(r"^virtual host +shop\.test:80", out, re.M)
    m = re.search(rf"^rule +{re.escape(str(explain.path))}:(\d+):\d+  vs\.default \(app-route\)",
                  out, re.M)
    assert m and abs(int(m[1]) - line) < 15, out
    assert re.search(r"^path sent +/inner/x\?q=1$", out, re.M)
    assert "outbound|8080|v1|app.default.svc.cluster.local, weight 90 of 100" in out
    assert "127.0.0.9:8080" in out


@pytest.mark.parametrize("host, target, args, says", [
    ("shop.test", "/app", ["-H", "X-Beta: yes"], r"rule +.*\(beta\)"),
    ("shop.test", "/app", ["-H", "X-Beta: no"], r"rule +.*\(app-route\)"),
    ("shop.test", "/old", [], r"answer +301, location: http://shop\.test/new"),
    ("shop.test", "/gone", [], r"answer +410: the rule's directResponse"),
    ("shop.test", "/ghost", [], r"answer +503: no Service or ServiceEntry .* \(flag NC\)"),
    ("shop.test", "/nowhere", [], r"answer +404: no rule of this virtual host matches \(flag NR\)"),
    ("other.test", "/", [], r"answer +404: no virtual host covers other\.test \(flag NR\)"),
    ("shop.test", "/app", ["--port", "80"], r"rule +.*\(app-route\)"),
    ("shop.test", "/app", ["--port", "443"], r"answer +nothing listens on port 443"),
    ("shop.test", "/app", ["--labels", "istio=none"], r"answer +nothing listens: .*--labels")])
def test_explain_an_answer(explain, host, target, args, says):
    lost = "404" in says or "nothing listens" in says
    out = explain(host, target, *args, status=int(lost))
    assert re.search("^" + says, out, re.M), out


def test_explain_as_json(explain):
    said = json.loads(explain("shop.test", "/app/./x?q=1", "-o", "json"))
    assert said["request"] == {"method": "GET", "host": "shop.test", "path": "/app/x?q=1",
                               "server_name": "shop.test"}
    (listener,) = said["listeners"]
    assert (listener["address"], listener["server_port"]) == ("0.0.0.0:80", 80)
    assert listener["virtual_host"] == "shop.test:80" and listener["matched"] is True
    assert listener["rule"]["name"] == "app-route" and listener["rule"]["match"] == "/app*"
    assert listener["path_sent"] == "/inner/x?q=1" and "status" not in listener
    v1, v2 = listener["clusters"]
    assert v1 == {"cluster": "outbound|8080|v1|app.default.svc.cluster.local",
                  "endpoints": ["127.0.0.9:8080"]}
    assert v2["endpoints"] == [] and v2["status"] == 503 and "(flag UH)" in v2["answer"]


@pytest.mark.parametrize("host, target, args, says", [
    ("shop.test", "/old", [], {"status": 301, "location": "http://shop.test/new", "matched": True}),
    ("shop.test", "/gone", [], {"status": 410, "matched": True}),
    ("shop.test", "/nowhere", [], {"status": 404, "matched": False,
                                   "answer": "no rule of this virtual host matches (flag NR)"}),
    ("shop.test", "/app", ["--port", "443"], {"answer": "nothing listens on port 443"}),
    ("shop.test", "/%00", [], {"status": 400, "answer": "the path is not valid"})])
def test_explain_an_answer_as_json(explain, host, target, args, says):
    said = json.loads(explain(host, target, "-o", "json", *args, status=int(not says.get("matched"))))
    about = said["listeners"][0] if said["listeners"] else said
    assert says.items() <= about.items(), said


def test_explain_needs_documents_that_hold(explain, tmp_path):
    assert "--host and --path are needed" in sluice("explain", "-f", explain.path).stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(explain.path.read_text().replace("prefix:", "prefx:"))
    result = sluice("explain", "--host", "a", "--path", "/", "-f", broken)
    assert result.returncode == 1 and result.stdout == ""
    assert re.search(r"broken\.yaml:\d+:\d+: error: VirtualService default/vs: ", result.stderr)


def test_explain_agrees_with_the_gateway(explain, serve):
    """The answers explained are the answers given."""
    ports = serve.ports(80)
    node = explain.path.with_name("node.yaml")
    node.write_text(d.text(d.node(ports)))
    gateway = serve.command([(None, node), (None, explain.path)], ports).wait_ready()
    for target in ("/old", "/gone", "/ghost", "/nowhere"):
        out = explain("shop.test", target, status=int(target == "/nowhere"))
        told = re.search(r"^answer +(\d+)", out, re.M)[1]
        assert gateway.fetch(target, host="shop.test").status == int(told), target
