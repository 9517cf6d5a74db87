"""A certificate authority of the tests, for receivers with https."""

import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """It issues certificates into the folder, for names or addresses; `client` trusts nothing but it."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._issue(self._key, "Authority", [x509.BasicConstraints(ca=True, path_length=0)])
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    @cached_property
    def client(self):
        return ssl.create_default_context(cafile=self.file)

    def server(self, host, *, days=2):
        """The context of a server whose certificate is for this name or address alone."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject: x509.GeneralName
        try:
            subject = x509.IPAddress(ip_address(host))
        except ValueError:
            subject = x509.DNSName(host)
        certificate = self._issue(key, "Receiver", [x509.SubjectAlternativeName([subject])], days=days)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        file = self.folder / f"{host}.pem"
        file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _issue(self, key, name, extensions, *, days=2):
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=7))
            .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())
