"""VirtualService.http: which rule a request gets, and what the rule does with it.

Every case lives on a host of its own in the documents of one gateway. Where only the choice
matters, rules answer by directResponse."""
import collections
import json
import re

import pytest

from lib import documents as d
from lib.http1 import reply
from lib.ports import ReservedPort
from lib.upstream import Upstream

HIT = {"status": 200, "body": {"string": "hit"}}

# name: (matches, requests that hit, requests that miss); a request is a target, or fetch()'s keywords.


def has(*headers, **kw):
    return {"headers": headers, **kw}


MATCHES = {
    "exact": ([{"uri": {"exact": "/a"}}],
              ["/a", "/a?x=1", "/a?"], ["/", "/a/", "/ab", "/A", "/a/b"]),
    "prefix": ([{"uri": {"prefix": "/static"}}],
               ["/static", "/staticfoo", "/static/x", "/static?x"], ["/", "/stati", "/Static", "/x/static"]),
    "regex": ([{"uri": {"regex": "/v[0-9]+/.*"}}],
              ["/v1/x", "/v22/", "/v1/x?q=/no"], ["/v/x", "/a/v1/x", "/v1", "/x?/v1/x"]),
    "regex-alternatives": ([{"uri": {"regex": "/(a|b)"}}], ["/a", "/b"], ["/ab", "/c", "/a/", "/"]),
    "regex-classes": ([{"uri": {"regex": r"/\d{2}/\w+\.(?i:PNG|gif)"}}],
                      ["/12/x.png", "/12/x.GIF"], ["/1/x.png", "/12/x.jpg", "/12/.png"]),
    "no-case-exact": ([{"uri": {"exact": "/Case"}, "ignoreUriCase": True}],
                      ["/case", "/CASE", "/Case?x"], ["/casex", "/cas"]),
    "no-case-prefix": ([{"uri": {"prefix": "/Pre"}, "ignoreUriCase": True}],
                       ["/pre", "/PREfix/x"], ["/pr", "/x/pre"]),
    "no-case-regex": ([{"uri": {"regex": "/Case"}, "ignoreUriCase": True}], ["/Case"], ["/case"]),
    "regex-is-full": ([{"uri": {"regex": "/a"}}], ["/a"], ["/ab", "/x/a"]),
    "regex-everything": ([{"uri": {"regex": ".*"}, "method": {"exact": "GET"}}],
                         ["/", "/a/b?c"], [{"method": "DELETE"}]),
    "scheme": ([{"scheme": {"exact": "http"}}], ["/"], []),
    "scheme-not": ([{"scheme": {"exact": "https"}}], [], ["/", has(("x-forwarded-proto", "https"))]),
    "method": ([{"method": {"exact": "GET"}}], ["/"], [{"method": "POST", "body": b""}]),
    "method-prefix": ([{"method": {"prefix": "P"}}],
                      [{"method": "POST", "body": b""}, {"method": "PUT", "body": b"x"}], ["/"]),
    "method-regex": ([{"method": {"regex": "GET|DELETE"}}],
                     ["/", {"method": "DELETE"}], [{"method": "POST", "body": b""}]),
    "header-exact": ([{"headers": {"x-user": {"exact": "jason"}}}],
                     [has(("X-User", "jason")), has(("x-user", "  jason\t"))],
                     ["/", has(("x-user", "Jason")), has(("x-user", "jason2")), has(("x-user", "")),
                      has(("x-user", "jason"), ("x-user", "bob")), has(("x-user-2", "jason"))]),
    "header-prefix": ([{"headers": {"x-user": {"prefix": "ja"}}}],
                      [has(("x-user", "jason"))], ["/", has(("x-user", "xja"))]),
    "header-regex": ([{"headers": {"x-user": {"regex": "j.*n"}}}],
                     [has(("x-user", "jason")), has(("x-user", "jn"))],
                     ["/", has(("x-user", "jasons")), has(("x-user", "a jn"))]),
    "header-present": ([{"headers": {"x-user": {}}}],
                       [has(("x-user", "")), has(("x-user", "any"))], ["/"]),
    "header-any": ([{"headers": {"x-user": {"regex": "*"}}}], [has(("x-user", "any"))], ["/"]),
    "header-empty": ([{"headers": {"x-user": {"exact": ""}}}],
                     [has(("x-user", ""))], ["/", has(("x-user", "a"))]),
    "header-name-case": ([{"headers": {"X-User": {"exact": "a"}}}],
                         [has(("x-user", "a")), has(("X-USER", "a"))], ["/", has(("x-user", "A"))]),
    "header-list": ([{"headers": {"x-user": {"exact": "a,b"}}}],
                    [has(("x-user", "a"), ("X-User", "b")), has(("x-user", "a,b"))],
                    [has(("x-user", "b"), ("x-user", "a")), has(("x-user", "a"))]),
    "authority-exact": ([{"authority": {"exact": "HOST"}}], ["/"], [{"host": "HOST:80"}]),
    "authority-prefix": ([{"authority": {"prefix": "HOST:8"}}],
                         [{"host": "HOST:80"}, {"host": "HOST:8443"}], ["/", {"host": "HOST:70"}]),
    "authority-regex": ([{"authority": {"regex": "HOST(:[0-9]+)?"}}],
                        ["/", {"host": "HOST:80"}], [{"host": "HOST:x"}]),
    "headers-all": ([{"headers": {"x-a": {"exact": "1"}, "x-b": {"exact": "2"}}}],
                    [has(("x-b", "2"), ("x-a", "1"))],
                    [has(("x-a", "1")), has(("x-a", "1"), ("x-b", "1"))]),
    "without-exact": ([{"withoutHeaders": {"x-user": {"exact": "jason"}}}],
                      ["/", has(("x-user", "bob"))], [has(("x-user", "jason"))]),
    "without-any": ([{"withoutHeaders": {"x-user": {}}}],
                    ["/"], [has(("x-user", "")), has(("x-user", "bob"))]),
    "without-prefix": ([{"withoutHeaders": {"x-user": {"prefix": "ja"}}}],
                       ["/", has(("x-user", "xja"))], [has(("x-user", "jason"))]),
    "without-regex": ([{"withoutHeaders": {"x-user": {"regex": "j.*n"}}}],
                      ["/", has(("x-user", "jasons"))], [has(("x-user", "jason"))]),
    "without-and-with": ([{"headers": {"x-a": {}}, "withoutHeaders": {"x-b": {}}}],
                         [has(("x-a", "1"))], ["/", has(("x-b", "1")), has(("x-a", "1"), ("x-b", "1"))]),
    "query-present": ([{"queryParams": {"q": {}}}],
                      ["/?q", "/?q=", "/?q=1", "/?a=1&q"], ["/", "/?qq=1", "/?Q", "/?a=q"]),
    "query-empty": ([{"queryParams": {"q": {"exact": ""}}}], ["/?q", "/?q=", "/?q&q=1"], ["/", "/?q=1"]),
    "query-raw": ([{"queryParams": {"q": {"exact": "a%20b"}}}], ["/?q=a%20b"], ["/?q=a+b", "/?q=a"]),
    "query-exact": ([{"queryParams": {"q": {"exact": "1"}}}],
                    ["/?q=1", "/?a=2&q=1", "/?q=1&a"], ["/", "/?q=2", "/?q=11", "/?Q=1", "/?xq=1", "/q=1"]),
    "query-prefix": ([{"queryParams": {"q": {"prefix": "v"}}}], ["/?q=v1"], ["/", "/?q=1v", "/?q="]),
    "query-regex": ([{"queryParams": {"q": {"regex": "[0-9]+"}}}],
                    ["/?q=10"], ["/", "/?q=", "/?q=1a"]),
    "query-all": ([{"queryParams": {"a": {"exact": "1"}, "b": {"exact": "2"}}}],
                  ["/?b=2&a=1"], ["/?a=1", "/?a=2&b=1"]),
    "port": ([{"port": 80}], ["/"], []),
    "port-not": ([{"port": 81}], [], ["/"]),
    "gateway": ([{"gateways": ["gw"], "uri": {"prefix": "/"}}], ["/"], []),
    "gateway-not": ([{"gateways": ["mesh"], "uri": {"prefix": "/"}}], [], ["/"]),
    "and": ([{"uri": {"prefix": "/a"}, "method": {"exact": "GET"}, "headers": {"x-a": {"exact": "1"}}}],
            [has(("x-a", "1"), target="/ab")],
            ["/a", has(("x-a", "1")), has(("x-a", "1"), target="/a", method="DELETE")]),
    "or": ([{"uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}, "method": {"exact": "GET"}}],
           ["/a", "/b", {"target": "/a", "method": "DELETE"}],
           ["/c", {"target": "/b", "method": "DELETE"}]),
}


def say(text, *matches, status=200, **fields):
    return d.rule(*matches, directResponse={"status": status, "body": {"string": text}}, **fields)


def uri(kind, value):
    return {"uri": {kind: value}}


REDIRECTS = {
    # name: (match, redirect, target, Host, status, Location)
    "path": (uri("exact", "/old"), {"uri": "/new"}, "/old?a=1", None,
             301, "http://HOST/new?a=1"),
    "path-of-prefix": (uri("prefix", "/old"), {"uri": "/new"}, "/old/x/y", None,
                       301, "http://HOST/new"),
    "authority": (None, {"authority": "other.test"}, "/p?q=1", "HOST:8080",
                  301, "http://other.test/p?q=1"),
    "host-port-kept": (None, {"uri": "/new"}, "/p", "HOST:8080", 301, "http://HOST:8080/new"),
    "scheme": (None, {"scheme": "https"}, "/p?q", None, 301, "https://HOST/p?q"),
    "scheme-default-port": (None, {"scheme": "https"}, "/p", "HOST:80", 301, "https://HOST/p"),
    "port": (None, {"port": 8443}, "/p", "HOST:8080", 301, "http://HOST:8443/p"),
    "port-elided": (None, {"scheme": "https", "port": 443}, "/p", None, 301, "https://HOST/p"),
    "port-elided-keeps-the-hosts": (None, {"port": 80}, "/p", "HOST:8080", 301, "http://HOST:8080/p"),
    "port-of-another-scheme": (None, {"scheme": "https", "port": 80}, "/p", "HOST:8080",
                               301, "https://HOST:80/p"),
    "port-and-authority": (None, {"authority": "o.test:1", "port": 8443}, "/p", None,
                           301, "http://o.test:8443/p"),
    "authority-and-scheme": (None, {"authority": "o.test", "scheme": "https"}, "/p?q", "HOST:80",
                             301, "https://o.test/p?q"),
    "authority-with-port": (None, {"authority": "o.test:8443", "scheme": "https"}, "/p", None,
                            301, "https://o.test:8443/p"),
    "derive-request": (None, {"derivePort": "FROM_REQUEST_PORT", "scheme": "https"}, "/p",
                       "HOST:31110", 301, "https://HOST:80/p"),
    "derive-request-elided": (None, {"derivePort": "FROM_REQUEST_PORT"}, "/p", None,
                              301, "http://HOST/p"),
    "derive-protocol": (None, {"derivePort": "FROM_PROTOCOL_DEFAULT", "scheme": "https"}, "/p",
                        "HOST:80", 301, "https://HOST/p"),
    "path-with-query": (uri("exact", "/old"), {"uri": "/new?x=1"}, "/old?a=1", None,
                        301, "http://HOST/new?x=1"),
    "path-without-slash": (None, {"uri": "new"}, "/old", None, 301, "http://HOST/new"),
    "path-is-normalised": (None, {"scheme": "https"}, "/a/../b", None, 301, "https://HOST/b"),
    "prefix-to-root": (uri("prefix", "/old"), {"prefixRewrite": "/"}, "/old/x", None,
                       301, "http://HOST//x"),
    "all": (None, {"scheme": "https", "authority": "o.test", "port": 8443, "uri": "/z",
                   "redirectCode": 308}, "/p?q=1", None, 308, "https://o.test:8443/z?q=1"),
    "prefix": (uri("prefix", "/old"), {"prefixRewrite": "/new"}, "/old/x?q=1", None,
               301, "http://HOST/new/x?q=1"),
    **{f"code-{code}": (None, {"uri": "/n", "redirectCode": code}, "/", None, code, "http://HOST/n")
       for code in (301, 302, 303, 307, 308)},
}

REWRITES = {
    # name: (match, rewrite, target, what the upstream sees)
    "prefix": (uri("prefix", "/old/"), {"uri": "/new/"}, "/old/x?y=1", "/new/x?y=1"),
    "prefix-string": (uri("prefix", "/slash"), {"uri": "/"}, "/slash/abc", "//abc"),
    "exact": (uri("exact", "/old"), {"uri": "/new"}, "/old?y=1", "/new?y=1"),
    "regex": (uri("regex", "/o.d/.*"), {"uri": "/new"}, "/old/x/y?z=1", "/new?z=1"),
    "prefix-alone": (uri("prefix", "/slash"), {"uri": "/"}, "/slash?q", "/?q"),
    "prefix-slash": (uri("prefix", "/slash/"), {"uri": "/"}, "/slash/abc", "/abc"),
    "prefix-blank": (uri("prefix", "/api"), {"uri": " "}, "/api/users?q", "/users?q"),
    "prefix-blank-alone": (uri("prefix", "/api"), {"uri": " "}, "/api", "/"),
    "root": (uri("prefix", "/"), {"uri": "/new/"}, "/a/b?q", "/new/a/b?q"),
    "root-string": (uri("prefix", "/"), {"uri": "/new"}, "/a", "/newa"),
    "root-to-root": (uri("prefix", "/"), {"uri": "/"}, "/a", "/a"),
    "no-match": (None, {"uri": "/new/"}, "/a", "/new/a"),
    "no-slash": (uri("exact", "/old"), {"uri": "new"}, "/old?q", "/new?q"),
    "prefix-no-case": (uri("prefix", "/Old/") | {"ignoreUriCase": True}, {"uri": "/new/"},
                       "/oLD/X", "/new/X"),
    "with-query": (uri("exact", "/old"), {"uri": "/new?a=1"}, "/old?b", "/new?a=1?b"),
    "captures-nothing-left": (None, {"uriRegexRewrite": {"match": "^/old(.*)$", "rewrite": "\\1"}},
                              "/old?q", "/?q"),
    "captures": (None, {"uriRegexRewrite": {"match": "^/service/([^/]+)(/.*)$",
                                            "rewrite": "\\2/instance/\\1"}},
                 "/service/foo/v1/api?q=1", "/v1/api/instance/foo?q=1"),
    "captures-all": (None, {"uriRegexRewrite": {"match": "one", "rewrite": "two"}},
                     "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
    "captures-none": (None, {"uriRegexRewrite": {"match": "nothing", "rewrite": "x"}},
                      "/abc?nothing", "/abc?nothing"),
    "no-case": (uri("prefix", "/aaa") | {"ignoreUriCase": True},
                {"uriRegexRewrite": {"match": "(?i)/aaa/", "rewrite": "/bbb/"}},
                "/AAA/xxx", "/bbb/xxx"),
}

HEADER_OPERATIONS = d.rule(
    headers={"request": {"set": {"x-set": "route", "x-both": "route"},
                         "add": {"x-add": "route"}, "remove": ["x-gone", "X-Gone-2"]},
             "response": {"set": {"x-reply": "route", "server": "mine"}, "add": {"x-more": "route"},
                          "remove": ["x-secret"]}},
    route=[d.to(headers={"request": {"set": {"x-both": "destination", "Host": "inner.test"},
                                     "add": {"x-add": "destination"}, "remove": ["x-gone-3"]},
                         "response": {"add": {"x-more": "destination"}, "remove": ["x-secret-2"]}})])

# Envoy applies a weighted destination's operations before its route's.
WEIGHTED_OPERATIONS = d.rule(
    headers={"request": {"set": {"x-both": "route"}, "add": {"x-add": "route"}, "remove": ["x-gone"]},
             "response": {"set": {"x-reply": "route"}, "add": {"x-more": "route"}}},
    route=[d.to(weight=weight, headers={
        "request": {"set": {"x-both": "destination", "Host": "inner.test"},
                    "add": {"x-add": "destination", "x-gone": "destination"}},
        "response": {"set": {"x-reply": "destination"}, "add": {"x-more": "destination"}}})
           for weight in (1, 1)])

# A lone destination's are joined to its route's: what any of them removes goes first.
JOINED_OPERATIONS = d.rule(
    headers={"request": {"add": {"x-add": "route"}, "remove": ["x-set"]},
             "response": {"add": {"x-more": "route"}}},
    route=[d.to(headers={"request": {"set": {"x-set": "destination"}, "remove": ["x-add"]},
                         "response": {"remove": ["x-more"]}})])

ORDER = [say("first", uri("prefix", "/a"), name="first"), say("second", uri("exact", "/ab")),
         say("third", uri("regex", "/x.*")), say("fourth", uri("prefix", "/xy")),
         say("rest", uri("prefix", "/")), say("dead", uri("exact", "/dead"))]


def host_of(group, name):
    return f"{name}.{group}.test"


def filled(what, host):
    """The same with HOST replaced in every string."""
    if isinstance(what, str):
        return what.replace("HOST", host)
    if isinstance(what, dict):
        return {key: filled(value, host) for key, value in what.items()}
    if isinstance(what, (list, tuple)):
        return [filled(value, host) for value in what]
    return what


def sites():
    """host -> its rules."""
    out = {}
    for name, (matches, _, _) in MATCHES.items():
        host = host_of("match", name)
        out[host] = [d.rule(*filled(matches, host), directResponse=HIT)]
    for name, (match, redirect, *_) in REDIRECTS.items():
        out[host_of("redirect", name)] = [d.rule(*([match] if match else []), redirect=redirect)]
    for name, (match, rewrite, *_) in REWRITES.items():
        out[host_of("rewrite", name)] = [d.rule(*([match] if match else []), rewrite=rewrite)]
    out |= {
        "order.test": ORDER,
        "headers.test": [HEADER_OPERATIONS],
        "weighted-headers.test": [WEIGHTED_OPERATIONS],
        "joined-headers.test": [JOINED_OPERATIONS],
        "named.test": [d.rule({"name": "block", **uri("exact", "/a")}, uri("exact", "/b"), name="rule")],
        "no-action.test": [d.rule(redirect={"uri": "/x", "redirectCode": 304})],
        "port-81.test": [d.rule({"port": 81})],
        "rewrite-host.test": [d.rule(rewrite={"authority": "inner.test"})],
        "echo.test": [d.rule()],
        "paths.test": [say("no", uri("exact", "/admin"), status=403), d.rule()],
        "weights.test": [d.rule(route=[d.to("app", weight=75), d.to("other", weight=25)])],
        "weight-zero.test": [d.rule(route=[d.to("app", weight=0), d.to("other", weight=100)])],
        "weight-relative.test": [d.rule(route=[d.to("app", weight=1), d.to("other", weight=1)])],
        "subset-1.test": [d.rule(route=[d.to("reviews.test", subset="v1")])],
        "subset-2.test": [d.rule(route=[d.to("reviews.test", subset="v2")])],
        "subset-empty.test": [d.rule(route=[d.to("reviews.test", subset="v3")])],
        "subset-unknown.test": [d.rule(route=[d.to("reviews.test", subset="v9")])],
        "direct-body.test": [d.rule(directResponse={"status": 503, "body": {"string": "closed\n"}})],
        "direct-bytes.test": [d.rule(directResponse={"status": 200, "body": {"bytes": "AAEC/w=="}})],
        "direct-empty.test": [d.rule(directResponse={"status": 204})],
        "direct-headers.test": [d.rule(directResponse={"status": 418, "body": {"string": "tea"}},
                                       headers={"response": {"set": {"content-type": "text/tea"}}})],
        "no-host.test": [d.rule(route=[d.to("missing")])],
        "no-port.test": [d.rule(route=[d.to("app", port=9999)])],
        "no-endpoint.test": [d.rule(route=[d.to("empty")])],
        "refused.test": [d.rule(route=[d.to("refused")])],
        "refused-once.test": [d.rule(route=[d.to("refused")], retries={"attempts": 0})],
        "timeout.test": [d.rule(timeout="0.2s")],
        "try-timeout.test": [d.rule(retries={"attempts": 1, "perTryTimeout": "0.1s", "retryOn": "5xx"})],
        "never-again.test": [d.rule(retries={"attempts": 0})],
        "gateway-error.test": [d.rule(retries={"attempts": 1, "retryOn": "gateway-error"})],
        "reset-again.test": [d.rule(retries={"attempts": 1, "retryOn": "reset"})],
        "closes.test": [d.rule()],
        "no-rule.test": [say("only", uri("exact", "/only"))],
        "nonsense.test": [d.rule()],
        "upper.MIXED.test": [say("mixed")],
    }
    return out


REVIEWS = {
    "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
    "metadata": {"name": "reviews", "namespace": d.NAMESPACE}}


def reviews(v1, v2):
    return REVIEWS | {"spec": {
        "hosts": ["reviews.test"], "resolution": "STATIC", "location": "MESH_INTERNAL",
        "ports": [{"number": 8080, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": port},
                       "labels": {"version": version}} for version, port in (("v1", v1), ("v2", v2))]}}


@pytest.fixture(scope="module")
def app():
    backend = Upstream("app")
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def other():
    backend = Upstream("other")
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def gateway(module_serve, app, other):
    refused = ReservedPort()
    services = [d.virtual_service(*rules, name=f"vs-{i}", hosts=[host.lower()])
                for i, (host, rules) in enumerate(sites().items())]
    wide = [("*", "any"), ("*.spec.test", "suffix"), ("www.spec.test", "exact"),
            ("*.deep.spec.test", "longer suffix")]
    services += [d.virtual_service(say(text), name=f"wide-{i}", hosts=[host])
                 for i, (host, text) in enumerate(wide)]
    services += [  # two on one host: the first one's catch-all comes last
        d.virtual_service(say("one", uri("exact", "/both")), say("one: rest", uri("prefix", "/")),
                          name="twice-1", hosts=["twice.test"]),
        d.virtual_service(say("two", uri("exact", "/both")), say("two: b", uri("exact", "/b")),
                          name="twice-2", hosts=["twice.test"])]
    yield module_serve(
        d.gateway(), *services, *d.backend(app.port), *d.backend(other.port, name="other"),
        *d.backend(refused.number, name="refused"), d.service("empty"),
        reviews(app.port, other.port),
        d.destination_rule("reviews.test", subsets=[{"name": v, "labels": {"version": v}}
                                                    for v in ("v1", "v2", "v3")]),
        args=["--access-log", "-", "--access-log-format",
              "%REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_FLAGS% %ROUTE_NAME%\n"])
    refused.release()


@pytest.fixture(autouse=True)
def echoing(app, other):
    app.forget()
    other.forget()


def ask(gateway, host, what):
    what = {"target": what} if isinstance(what, str) else what
    return gateway.fetch(**{"target": "/", "host": host, **what})


# ---- choosing

@pytest.mark.parametrize("name", MATCHES)
def test_match(gateway, name):
    _, hits, misses = MATCHES[name]
    host = host_of("match", name)
    taken = [(what, ask(gateway, host, filled(what, host)).body == b"hit") for what in hits + misses]
    assert taken == [(w, True) for w in hits] + [(w, False) for w in misses]


@pytest.mark.parametrize("target, text", [
    ("/a", "first"), ("/ab", "first"), ("/xyz", "third"), ("/xy", "third"), ("/", "rest"),
    ("/dead", "rest")])
def test_the_first_rule_that_matches_is_taken(gateway, target, text):
    assert gateway.fetch(target, host="order.test").body.decode() == text


@pytest.mark.parametrize("host, text", [
    ("www.spec.test", "exact"), ("x.spec.test", "suffix"), ("a.b.spec.test", "suffix"),
    ("x.deep.spec.test", "longer suffix"), ("deep.spec.test", "suffix"), ("spec.test", "any"),
    ("elsewhere", "any"), ("WWW.Spec.Test:8080", "exact"), ("x.SPEC.test:1", "suffix"),
    ("upper.mixed.test", "mixed")])
def test_the_more_specific_host_wins(gateway, host, text):
    assert gateway.fetch(host=host).body.decode() == text


@pytest.mark.parametrize("target, text", [
    ("/both", "one"), ("/b", "two: b"), ("/c", "one: rest")])
def test_virtual_services_of_one_host_are_joined(gateway, target, text):
    assert gateway.fetch(target, host="twice.test").body.decode() == text


def backends(gateway, host, count):
    seen = collections.Counter()
    with gateway.client() as client:
        for _ in range(count):
            seen[client.roundtrip("/", host=host).json()["backend"]] += 1
    return seen


def test_weights(gateway):
    seen = backends(gateway, "weights.test", 400)
    assert 240 < seen["app"] < 350, seen  # 300 expected, 8.7 the deviation
    seen = backends(gateway, "weight-relative.test", 200)
    assert 60 < seen["app"] < 140, seen  # 100, 7.1
    assert backends(gateway, "weight-zero.test", 50) == {"other": 50}


def test_subsets(gateway):
    assert backends(gateway, "subset-1.test", 10) == {"app": 10}
    assert backends(gateway, "subset-2.test", 10) == {"other": 10}


# ---- redirect, direct response

@pytest.mark.parametrize("name", REDIRECTS)
def test_redirect(gateway, name):
    _, _, target, sent_host, status, location = REDIRECTS[name]
    host = host_of("redirect", name)
    response = gateway.fetch(target, host=(sent_host or "HOST").replace("HOST", host))
    assert (response.status, response.header("location")) == (status, location.replace("HOST", host))
    assert response.body == b"" and response.header("server") == "sluice"


def test_https_redirect_of_a_server(serve, upstream):
    gateway = serve(d.gateway("secure.test", tls={"httpsRedirect": True}),
                    d.virtual_service(d.rule(), hosts=["secure.test"]), *d.backend(upstream.port))
    response = gateway.fetch("/a/../b?c=d", host="secure.test:31110")
    assert response.status == 301 and response.body == b""
    assert response.header("location") in ("https://secure.test:31110/b?c=d",
                                           "https://secure.test:31110/a/../b?c=d")
    assert gateway.fetch("/", host="Secure.Test").status == 301
    assert gateway.fetch("/", host="other.test").status == 404
    assert not upstream.requests


@pytest.mark.parametrize("host, status, body", [
    ("direct-body.test", 503, b"closed\n"), ("direct-bytes.test", 200, b"\x00\x01\x02\xff"),
    ("direct-empty.test", 204, b"")])
def test_direct_response(gateway, host, status, body):
    with gateway.client() as client:
        for _ in range(2):
            response = client.roundtrip("/", host=host)
            assert (response.status, response.body) == (status, body)
        head = client.roundtrip("/", host=host, method="HEAD")
        assert head.status == status and head.body == b""
        if status != 204:
            assert head.content_length() == len(body)
        # a body that comes along is read and dropped
        assert client.roundtrip("/", host=host, method="POST", body=b"x" * 1000).status == status
        assert client.roundtrip("/", host=host).status == status


def test_direct_response_with_headers(gateway):
    response = gateway.fetch(host="direct-headers.test")
    assert (response.status, response.body) == (418, b"tea")
    assert response.header("content-type") == "text/tea"


# ---- rewriting

@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(gateway, name):
    _, _, target, expected = REWRITES[name]
    seen = gateway.fetch(target, host=host_of("rewrite", name)).json()
    assert seen["target"] == expected
    if target != expected:
        assert dict(seen["headers"])["x-envoy-original-path"] == target


def test_rewrite_of_the_authority(gateway):
    headers = dict(gateway.fetch("/x", host="rewrite-host.test:81").json()["headers"])
    assert headers["host"] == "inner.test"
    assert headers["x-envoy-original-host"] == "rewrite-host.test:81"


def listed(message, name):
    return [part.strip() for value in message.all(name) for part in value.split(",")]


def test_header_operations(gateway, app):
    app.handler = lambda c, r: c.send(reply(headers=[
        ("x-reply", "upstream"), ("x-reply", "again"), ("x-more", "upstream"), ("x-secret", "1"),
        ("X-Secret-2", "2"), ("x-kept", "1")]))
    response = gateway.fetch(host="headers.test", headers=[
        ("X-Set", "client"), ("X-Both", "client"), ("x-add", "client"), ("x-gone", "1"),
        ("x-gone", "2"), ("x-gone-2", "1"), ("X-GONE-3", "1"), ("x-kept", "1")])
    request = app.requests[-1]

    assert request.all("host") == ["inner.test"]
    assert request.all("x-set") == ["route"]
    assert request.all("x-both") == ["destination"]
    assert listed(request, "x-add") == ["client", "route", "destination"]
    assert request.all("x-kept") == ["1"]
    assert not [n for n, _ in request.headers if n.startswith("x-gone")]
    assert response.all("x-reply") == ["route"]
    assert listed(response, "x-more") == ["upstream", "route", "destination"]
    assert response.all("x-kept") == ["1"] and response.all("server") == ["mine"]
    assert not [n for n, _ in response.headers if n.startswith("x-secret")]


def test_header_operations_of_a_weighted_destination(gateway, app):
    app.handler = lambda c, r: c.send(reply(headers=[("x-reply", "upstream")]))
    response = gateway.fetch(host="weighted-headers.test", headers=[("x-both", "client")])
    request = app.requests[-1]
    assert request.all("host") == ["inner.test"]
    assert request.all("x-envoy-original-host") == ["weighted-headers.test"]
    assert request.all("x-both") == ["route"]
    assert listed(request, "x-add") == ["destination", "route"]
    assert not request.all("x-gone")
    assert response.all("x-reply") == ["route"]
    assert listed(response, "x-more") == ["destination", "route"]


def test_header_operations_of_a_lone_destination_are_joined(gateway, app):
    app.handler = lambda c, r: c.send(reply(headers=[("x-more", "upstream")]))
    response = gateway.fetch(host="joined-headers.test",
                             headers=[("x-set", "client"), ("x-add", "client")])
    request = app.requests[-1]
    assert request.all("x-set") == ["destination"]
    assert request.all("x-add") == ["route"]
    assert response.all("x-more") == ["route"]


# ---- names, and what is not there

@pytest.mark.parametrize("target, name", [("/a", "rule.block"), ("/b", "rule")])
def test_route_name(gateway, target, name):
    start = len(gateway.out.lines)
    assert gateway.fetch(target, host="named.test").status == 200
    assert gateway.out.wait(rf"^named.test 200 - {re.escape(name)}$", 5, start)


def test_redirect_with_a_code_that_is_none(gateway):
    assert gateway.fetch(host="no-action.test").status == 404


def test_host_without_a_rule_for_this_port(gateway):
    """It is not there, so the wildcard of another VirtualService has it."""
    assert gateway.fetch(host="port-81.test").body == b"any"


# ---- paths

@pytest.mark.parametrize("sent, forwarded", [
    ("/", "/"), ("/a/../b", "/b"), ("/a/./b", "/a/b"), ("/a/..", "/"), ("/a/.", "/a/"),
    ("/a/b/../../c", "/c"), ("/%2e%2e/b", "/b"), ("/a/%2E%2E/b", "/b"), ("/a/.%2e/b", "/b"),
    ("/a/%2e/b", "/a/b"), ("/a\\b", "/a/b"), ("/a\\..\\b", "/b"), ("/%41%7e%2D", "/A~-"),
    ("/a//b", "/a//b"), ("/a%2Fb", "/a%2Fb"), ("/a%5Cb", "/a%5Cb"), ("/a#frag", "/a"),
    ("/a?x=1#frag", "/a?x=1"), ("/a?x=/../y", "/a?x=/../y"), ("/a?b?c", "/a?b?c"), ("/a?", "/a?"),
    ("/a;p=1/../b", "/b"), ("/a%20b", "/a%20b"), ("/...", "/..."), ("/a/..b", "/a/..b"),
    ("/a%25%32%65", "/a%252e"), ("http://paths.test/x/../y?z", "/y?z"), ("http://paths.test", "/"),
    ("http://paths.test?q", "/?q")])
def test_path_is_normalised_once(gateway, sent, forwarded):
    assert gateway.fetch(sent, host="paths.test").json()["target"] == forwarded


@pytest.mark.parametrize("sent", [
    "/admin", "/x/../admin", "/%61dmin", "/./admin", "/x/%2e%2e/admin", "\\admin", "/x/..\\admin",
    "/admin#x", "/admin?x", "http://paths.test/admin"])
def test_what_is_routed_is_what_is_meant(gateway, sent):
    response = gateway.fetch(sent, host="paths.test")
    assert response.status == (400 if sent.startswith("\\") else 403)


@pytest.mark.parametrize("sent", ["/%00", "/a%00b", "*", "a", "/\xe9", "/\x7f", "?x", "//\x01"])
def test_path_is_refused(gateway, app, sent):
    response = gateway.fetch(sent, host="paths.test")
    assert response.status == 400
    assert not app.requests


# ---- what a failure looks like

def logged(gateway, host):
    m = gateway.out.wait(rf"^{host} (\d+) (\S+) ", 5)
    assert m, gateway.out.lines[-5:]
    return int(m[1]), m[2]


CONNECT_ERROR = "upstream connect error or disconnect/reset before headers. "

FAILURES = [
    # host, status, body, flags
    ("no-host.test", 503, "", "NC"),
    ("no-port.test", 503, "", "NC"),
    ("subset-unknown.test", 503, "", "NC"),
    ("no-endpoint.test", 503, "no healthy upstream", "UH"),
    ("subset-empty.test", 503, "no healthy upstream", "UH"),
    ("refused.test", 503, CONNECT_ERROR + "retried and the latest reset reason: "
     "remote connection failure", "UF,URX"),
    ("refused-once.test", 503, CONNECT_ERROR + "reset reason: remote connection failure", "UF"),
    ("no-rule.test", 404, "", "NR"),
]


@pytest.mark.parametrize("host, status, body, flags", FAILURES, ids=[f[0] for f in FAILURES])
def test_failure(gateway, host, status, body, flags):
    with gateway.client() as client:
        response = client.roundtrip("/nothing", host=host)
        assert (response.status, response.body.decode()) == (status, body)
        assert response.content_length() == len(body)
        assert response.header("server") == "sluice" and response.header("date")
        assert client.roundtrip("/nothing", host=host).status == status  # kept alive
    assert logged(gateway, host) == (status, flags)


def test_route_timeout(gateway, app):
    app.handler = lambda connection, request: connection.rest()  # never answers
    response = gateway.fetch(host="timeout.test")
    assert (response.status, response.body) == (504, b"upstream request timeout")
    assert logged(gateway, "timeout.test") == (504, "UT")


def test_upstream_that_closes_instead_of_answering(gateway, app):
    app.handler = lambda connection, request: connection.close()
    response = gateway.fetch(host="closes.test", method="POST", body=b"once")
    assert response.status == 503
    assert response.body.decode() == CONNECT_ERROR + "reset reason: connection termination"
    assert logged(gateway, "closes.test") == (503, "UC")
    assert len(app.requests) == 1


def test_upstream_that_answers_nonsense(gateway, app):
    app.handler = lambda connection, request: connection.send(b"HTTP/2.5 200 OK\r\n\r\n")
    response = gateway.fetch(host="nonsense.test")
    assert response.status == 502
    assert response.body.decode() == CONNECT_ERROR + "reset reason: protocol error"
    assert logged(gateway, "nonsense.test") == (502, "UPE")
    assert len(app.requests) == 1


def test_timeout_of_each_try(gateway, app):
    """Both tries take too long."""
    app.handler = lambda connection, request: connection.rest()
    before = gateway.metric("upstream_rq_per_try_timeout")
    response = gateway.fetch(host="try-timeout.test")
    assert (response.status, response.body) == (504, b"upstream request timeout")
    assert logged(gateway, "try-timeout.test") == (504, "UT,URX")
    assert gateway.metric("upstream_rq_per_try_timeout") == before + 2
    assert len(app.requests) == 2


@pytest.mark.parametrize("host", ["gateway-error.test", "reset-again.test"])
@pytest.mark.parametrize("bad", [b"", b"HTTP/2.5 200 OK\r\n\r\n"], ids=["close", "nonsense"])
def test_reset_is_tried_again(gateway, app, host, bad):
    """A reset is as good as the 5xx that it becomes; once is enough, twice is the limit."""
    def break_off(connection, _seen):
        connection.send(bad)
        connection.close()

    app.handler = lambda c, r: break_off(c, r) if len(app.requests) == 1 else c.send(reply(b"second"))
    assert gateway.fetch(host=host).body == b"second"
    assert logged(gateway, host) == (200, "-")
    app.handler = break_off
    start = len(gateway.out.lines)
    assert gateway.fetch(host=host, method="POST").status == (502 if bad else 503)
    assert gateway.out.wait(rf"^{host} {502 if bad else 503} {'UPE' if bad else 'UC'},URX ", 5, start)


def test_dead_pooled_connection_is_no_retry_of_the_route(gateway, app):
    """It goes out again once, outside the policy, which has none: no URX."""
    app.handler = lambda c, r: c.send(reply()) if len(app.requests) == 1 else c.close()
    with gateway.client() as client:
        assert client.roundtrip("/", host="never-again.test").status == 200
        assert client.roundtrip("/", host="never-again.test").status == 503
    assert len(app.requests) == 3
    assert gateway.out.wait(r"^never-again.test 503 UC ", 5)


def test_echo_is_json(gateway):
    """Nothing on the way touches a body."""
    body = bytes(range(256))
    seen = gateway.fetch(host="echo.test", method="POST", body=body)
    assert json.loads(seen.body)["body"].encode("latin-1") == body
