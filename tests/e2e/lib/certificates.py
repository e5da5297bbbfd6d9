"""Certificates for the tests, made with `openssl` when they are needed: nothing secret is kept.

An authority signs with `openssl ca`, which alone sets any dates and writes revocation lists."""
import base64
import hashlib
import subprocess
from datetime import datetime, timedelta, timezone

_CONFIG = """
[ca]
default_ca = this
[this]
dir = {folder}
database = {folder}/index
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
certificate = {folder}/cert.pem
private_key = {folder}/key.pem
default_md = sha256
default_crl_days = 30
policy = any
unique_subject = no
copy_extensions = none
[any]
commonName = optional
[req]
distinguished_name = nothing
[nothing]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:false
keyUsage = digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
{names}
[client]
basicConstraints = CA:false
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
{names}
"""
_KEYS = {"ecdsa": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
         "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]}
DAY = timedelta(days=1)


def openssl(*args, data=None):
    run = subprocess.run(["openssl", *map(str, args)], input=data, capture_output=True, timeout=60,
                         check=False)
    assert run.returncode == 0, f"openssl {args}: {run.stderr.decode()}"
    return run.stdout


def _moment(delta):
    return (datetime.now(timezone.utc) + delta).strftime("%Y%m%d%H%M%SZ")


class Certificate:
    """A key and its certificate in `key` and `cert`, files in PEM (the issuers' behind it)."""

    def __init__(self, folder, name):
        self.name = name
        self.key, self.cert = folder / f"{name}.key", folder / f"{name}.crt"

    def der(self):
        return openssl("x509", "-in", self.cert, "-outform", "DER")

    def sha256(self):
        """As verifyCertificateHash has it."""
        return hashlib.sha256(self.der()).hexdigest()

    def spki(self):
        """As verifyCertificateSpki has it."""
        public = openssl("pkey", "-in", self.key, "-pubout", "-outform", "DER")
        return base64.b64encode(hashlib.sha256(public).digest()).decode()


class Authority(Certificate):
    """A root, or below `parent` an intermediate."""

    def __init__(self, folder, name="ca", parent=None):
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        super().__init__(self.folder, name)
        self.key, self.cert = self.folder / "key.pem", self.folder / "cert.pem"
        self.crl, self.parent = self.folder / "crl.pem", parent
        for file, text in (("index", ""), ("serial", "1000"), ("crlnumber", "01")):
            (self.folder / file).write_text(text)
        self._configure("")
        openssl("genpkey", *_KEYS["ecdsa"], "-out", self.key)
        signer = parent or self
        signer._sign(self.key, f"/CN={name}", self.cert, "authority", -DAY, 365 * DAY,
                     () if parent else ("-selfsign", "-keyfile", self.key))

    def _configure(self, names):
        config = self.folder / "openssl.cnf"
        config.write_text(_CONFIG.format(folder=self.folder, names=names))
        return config

    def _sign(self, key, subject, out, kind, begins, ends, more=()):
        request = out.with_suffix(".csr")
        config = self.folder / "openssl.cnf"
        openssl("req", "-new", "-config", config, "-key", key, "-subj", subject, "-out", request)
        openssl("ca", "-batch", "-notext", "-config", config, "-extensions", kind, "-in", request,
                "-out", out, "-startdate", _moment(begins), "-enddate", _moment(ends), *more)

    def issue(self, name, sans=(), kind="server", algorithm="ecdsa", begins=-DAY, ends=90 * DAY,
              common_name=None):
        """`sans`: as openssl's subjectAltName has them ("DNS:a.test"), or ["DER:…"] in hex."""
        self._configure("subjectAltName = " + ", ".join(sans) if sans else "")
        leaf = Certificate(self.folder, name)
        openssl("genpkey", *_KEYS[algorithm], "-out", leaf.key)
        self._sign(leaf.key, f"/CN={common_name or name}", leaf.cert, kind, begins, ends)
        if self.parent:
            with open(leaf.cert, "ab") as f:
                f.write(self.cert.read_bytes())
        return leaf

    def revoke(self, *leaves):
        """The revocation list with these and all before them."""
        config = self._configure("")
        for leaf in leaves:
            openssl("ca", "-config", config, "-revoke", leaf.cert)
        openssl("ca", "-config", config, "-gencrl", "-out", self.crl)
        return self.crl
