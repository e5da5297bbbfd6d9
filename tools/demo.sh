#!/usr/bin/env bash
# The demo of `./dev run`: bookinfo backends and the gateway on conf/demo, in the foreground, with a
# list of what to try. The documents are copied first, so that editing them leaves the checkout alone.
# Everything listens on loopback, except the gateway's own ports; Ctrl-C ends it all.
# Arguments are passed on to `sluice run`.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${SLUICE_DEMO_BIN:-zig-out/bin}

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The program that has a port, where it may be known.
holder() { ss -ltnpH "sport = :$1" 2>/dev/null | sed -nE 's/.*users:\(\("([^"]*)",pid=([0-9]+).*/ (\1, pid \2)/p' | head -1; }

# The gateway's port is any that is free, or the one that SLUICE_DEMO_PORT names.
port=${SLUICE_DEMO_PORT:-8080}
if taken "$port"; then
    echo "demo: port $port is taken by another program$(holder "$port")" >&2
    [ -z "${SLUICE_DEMO_PORT:-}" ] || exit 1
    while taken "$port"; do port=$((port + 1)); done
    echo "demo: port $port is used instead; SLUICE_DEMO_PORT=N names another" >&2
fi

for other in 15000 15021 15090 9080 9081 9082 9083 9084 9085; do
    if taken "$other"; then
        echo "demo: port $other is taken by another program$(holder "$other"); stop it and run this again" >&2
        exit 1
    fi
done

docs=$(mktemp -d "${TMPDIR:-/tmp}/sluice-demo-XXXXXX")
cp conf/demo/*.yaml "$docs/"
sed -i "s/targetPort: 8080$/targetPort: $port/" "$docs/ingress.yaml"
sed -i "s/localhost:8080/localhost:$port/" "$docs/bookinfo.yaml"
backend= gateway=
finish() {
    trap - EXIT INT TERM
    if [ -n "$gateway" ]; then
        kill "$gateway" 2>/dev/null || true
        wait "$gateway" || true
    fi
    [ -z "$backend" ] || { kill "$backend" && wait "$backend"; } 2>/dev/null || true
    rm -rf "$docs"
}
trap finish EXIT
trap 'finish; exit 143' TERM
trap 'finish; exit 130' INT

list() {
    cat <<TEXT

  Sluice serves the documents in $docs. In a browser: http://localhost:$port/productpage
  Or in another terminal:

  a route, with the headers the gateway adds     curl -i localhost:$port/api/v1/products
  a rewrite: /books is /api/v1/products          curl localhost:$port/books/0
  a redirect                                     curl -i localhost:$port/
  a redirect by host                             curl -i -H 'Host: old.bookinfo.example' localhost:$port/any
  an answer without a backend                    curl -i localhost:$port/teapot
  nothing matches: 404                           curl -i localhost:$port/nowhere
  weights: 70/20/10 over three versions          for i in \$(seq 100); do curl -s localhost:$port/reviews/0; done | grep -o '"v[123]"' | sort | uniq -c
  a match by header: always v3                   curl -H 'end-user: jason' localhost:$port/reviews/0
  why a request goes where it goes               $bin/sluice explain -f $docs --host localhost --path /reviews/0
  what is configured                             $bin/sluice proxy-config routes
  metrics                                        curl -s localhost:15090/stats/prometheus | grep -v '^#'
  ready                                          curl -i localhost:15021/healthz/ready

  a reload: most to v3, none to v1; then ask for weights again
      sed -i 's/weight: 70/weight: 0/; s/weight: 10/weight: 80/' $docs/bookinfo.yaml
  a mistake: refused with its place in the file, and the routes stay as they are
      sed -i 's/rewrite:/rewirte:/' $docs/bookinfo.yaml        and back: sed -i 's/rewirte:/rewrite:/' $docs/bookinfo.yaml

  Ctrl-C ends it.

TEXT
}

# Each in a process group of its own: Ctrl-C comes here, and `finish` passes it on, once.
set -m
"$bin/demo_backend" &
backend=$!
"$bin/sluice" run -f "$docs" "$@" &
gateway=$!
for _ in $(seq 100); do
    taken "$port" && break
    kill -0 "$gateway" 2>/dev/null || break
    sleep 0.1
done
if kill -0 "$gateway" 2>/dev/null; then list; fi
status=0
wait "$gateway" || status=$?
gateway=
exit "$status"
