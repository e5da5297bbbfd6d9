"""HTTP/1.1 clients over TLS."""
import hashlib
import ssl

from lib import http1


def context(ca=None, identity=None, versions=None, ciphers=None, alpn=None):
    """A client's; without a CA whoever answers is believed."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = ca is not None
    c.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    if ca:
        c.load_verify_locations(ca.cert)
    if identity:
        c.load_cert_chain(identity.cert, identity.key)
    if versions:
        c.minimum_version, c.maximum_version = versions
    if ciphers:
        c.set_ciphers(ciphers)
    if alpn:
        c.set_alpn_protocols(alpn)
    return c


class Client(http1.Client):
    """HTTP/1.1 over TLS; `name` is the SNI (None: none) and what the certificate must be for.
    `strict`: an end without close_notify is an ssl.SSLEOFError."""

    def __init__(self, port, name="a.test", ctx=None, session=None, strict=False, **kw):
        super().__init__(port, **kw)
        try:
            self.socket = (ctx or context()).wrap_socket(self.socket, server_hostname=name,
                                                         session=session,
                                                         suppress_ragged_eofs=not strict)
        except BaseException:
            self.close()
            raise

    def shown(self):
        """The SHA-256 of the certificate that the gateway has shown."""
        return hashlib.sha256(self.socket.getpeercert(binary_form=True)).hexdigest()


def fetch(port, target="/", name="a.test", ctx=None, **kw):
    with Client(port, name, ctx) as client:
        return client.roundtrip(target, **{"host": name, **kw})


def refusal(port, name="a.test", ctx=None):
    """How a connection ends that is refused: "end" without a word, "reset", or the alert's name.
    With TLS 1.3 a client's certificate is refused after its handshake has ended."""
    try:
        with Client(port, name, ctx) as client:
            client.send(http1.request(host=name))
            data = client.socket.recv(1)
            assert not data, "it was served"
            return "end"
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return "end"
    except ConnectionResetError:
        return "reset"
    except ssl.SSLError as e:
        return (e.reason or str(e)).lower()
    except BrokenPipeError:
        return "end"
