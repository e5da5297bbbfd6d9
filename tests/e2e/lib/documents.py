"""Istio and Kubernetes documents as the tests need them, as YAML text."""
import yaml

NAMESPACE = "default"


def text(*documents):
    return yaml.safe_dump_all(documents, sort_keys=False)


def _document(api, kind, name, spec, namespace=NAMESPACE, **metadata):
    return {"apiVersion": api, "kind": kind,
            "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": spec}


def gateway(*hosts, name="gw", number=80, namespace=NAMESPACE, tls=None):
    server = {"port": {"number": number, "name": f"http-{number}", "protocol": "HTTP"},
              "hosts": list(hosts or ["*"])}
    if tls:
        server["tls"] = tls
    return _document("networking.istio.io/v1", "Gateway", name,
                     {"selector": {"istio": "ingressgateway"}, "servers": [server]}, namespace)


def server(*hosts, number=443, protocol="HTTPS", name=None, **tls):
    """One of a Gateway's servers, with TLS."""
    return {"port": {"number": number, "name": name or f"s-{number}-{hosts[0]}", "protocol": protocol},
            "hosts": list(hosts), **({"tls": tls} if tls else {})}


def gateway_of(*servers, name="gw", namespace=NAMESPACE):
    return _document("networking.istio.io/v1", "Gateway", name,
                     {"selector": {"istio": "ingressgateway"}, "servers": list(servers)}, namespace)


def secret(name, certificate=None, ca=None, namespace=NAMESPACE, **more):
    """As `kubectl create secret tls`, with a CA's certificate as ca.crt."""
    data = dict(more)
    if certificate:
        data.update({"tls.crt": certificate.cert.read_text(),
                     "tls.key": certificate.key.read_text()})
    if ca:
        data["ca.crt"] = ca.cert.read_text()
    return {"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace}, "stringData": data}


def virtual_service(*http, name="vs", hosts=("*",), gateways=("gw",), namespace=NAMESPACE):
    return _document("networking.istio.io/v1", "VirtualService", name,
                     {"hosts": list(hosts), "gateways": list(gateways), "http": list(http)},
                     namespace)


def l4_gateway(*servers, name="gw", namespace=NAMESPACE):
    """servers: (number, protocol, hosts, tls or None)."""
    return _document("networking.istio.io/v1", "Gateway", name,
                     {"selector": {"istio": "ingressgateway"},
                      "servers": [{"port": {"number": number, "name": f"p{number}",
                                            "protocol": protocol}, "hosts": hosts}
                                  | ({"tls": tls} if tls else {})
                                  for number, protocol, hosts, tls in servers]}, namespace)


def l4_service(kind, *routes, name="vs", hosts=("*",), gateways=("gw",), namespace=NAMESPACE):
    """A VirtualService with `tcp` or `tls` routes."""
    return _document("networking.istio.io/v1", "VirtualService", name,
                     {"hosts": list(hosts), "gateways": list(gateways), kind: list(routes)},
                     namespace)


def destination_rule(host, name="dr", namespace=NAMESPACE, **spec):
    return _document("networking.istio.io/v1", "DestinationRule", name, {"host": host, **spec},
                     namespace)


def to(host="app", port=None, subset=None, **route):
    """A routeDestination entry."""
    destination = {"host": host}
    if port:
        destination["port"] = {"number": port}
    if subset:
        destination["subset"] = subset
    return {"destination": destination, **route}


def rule(*matches, route=None, **fields):
    """An HTTPRoute: matches, then its action (to `app` unless another one is given)."""
    out = {"match": list(matches)} if matches else {}
    if not {"redirect", "directResponse"} & fields.keys():
        out["route"] = route or [to()]
    return out | fields


def service(name="app", number=8080, namespace=NAMESPACE, port_name="http"):
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"name": port_name, "port": number}], "selector": {"app": name}}}


def endpoints(*ports, name="app", namespace=NAMESPACE, port_name="http"):
    """One EndpointSlice for each port: addresses differ in their port only."""
    return [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
             "metadata": {"name": f"{name}-{port}", "namespace": namespace,
                          "labels": {"kubernetes.io/service-name": name}},
             "addressType": "IPv4",
             "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
             "ports": [{"name": port_name, "port": port, "protocol": "TCP"}]}
            for port in ports]


def backend(*ports, name="app", namespace=NAMESPACE, number=8080):
    """A Service together with its endpoints on loopback."""
    return [service(name, number, namespace), *endpoints(*ports, name=name, namespace=namespace)]


def labelled_backend(labels_by_port, name="app", namespace=NAMESPACE, number=8080, port_name="tcp"):
    """As backend(), each endpoint a Pod with labels of its own."""
    out = [service(name, number, namespace, port_name)]
    slices = endpoints(*labels_by_port, name=name, namespace=namespace, port_name=port_name)
    for (port, labels), item in zip(labels_by_port.items(), slices):
        pod = f"{name}-{port}"
        item["endpoints"][0]["targetRef"] = {"kind": "Pod", "name": pod, "namespace": namespace}
        out += [item, {"apiVersion": "v1", "kind": "Pod",
                       "metadata": {"name": pod, "namespace": namespace, "labels": labels},
                       "spec": {"containers": []}, "status": {"phase": "Running"}}]
    return out


def node(targets, namespace="istio-system", udp=None):
    """The gateway's own Service: server port -> the port that is bound, of TCP and of UDP."""
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "istio-ingressgateway", "namespace": namespace},
            "spec": {"selector": {"istio": "ingressgateway"},
                     "ports": [{"name": f"p{number}", "port": number, "targetPort": target}
                               for number, target in targets.items()] +
                              [{"name": f"u{number}", "port": number, "targetPort": target,
                                "protocol": "UDP"} for number, target in (udp or {}).items()]}}
