"""Peers with certificates of all kinds of names, for tests of who may do what."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.host.peers import Answer, Peer
from tests.support.certificates import Certificates, Identity, make_identity
from verser2_guest_python.host import VerserHost


@dataclass
class Crowd:
    """An authority for clients, and certificates that it signs when they are asked for."""

    directory: Path
    certs: Certificates
    authority: Identity = field(default_factory=lambda: make_identity("Crowd CA", authority=True))
    made: dict[str, Identity] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        path = self.directory / "ca.pem"
        if not path.exists():
            path.write_bytes(self.authority.certificate_pem)
        return path

    def show(self, name: str, *, dns: tuple[str, ...] = (), uris: tuple[str, ...] = ()) -> dict[str, Any]:
        """What a peer is made with to show a certificate of this CN: the same one each time."""
        stem = "-".join((name, *dns, *uris)).replace("/", "_").replace(":", "_").replace("*", "star")
        cert, key = (
            self.directory / f"{stem or 'nameless'}.pem",
            self.directory / f"{stem or 'nameless'}-key.pem",
        )
        if stem not in self.made:
            names = (*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uris))
            one = self.made[stem] = make_identity(name, self.authority, names=names)
            cert.write_bytes(one.certificate_pem)
            key.touch(mode=0o600)
            key.write_bytes(one.key_pem())
        return {"cert": cert, "key": key}

    def renew(self, name: str) -> dict[str, Any]:
        """The same names in a new certificate."""
        cert, key = self.directory / f"{name}-new.pem", self.directory / f"{name}-new-key.pem"
        one = make_identity(name, self.authority)
        cert.write_bytes(one.certificate_pem)
        key.touch(mode=0o600)
        key.write_bytes(one.key_pem())
        return {"cert": cert, "key": key}

    def fingerprint(self, name: str) -> str:
        self.show(name)
        return self.made[name].certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    async def register(
        self, host: VerserHost, peer_id: str, role: str, *domains: str, **shown: Any
    ) -> Answer | None:
        """A registration on a session of its own, and its answer; None where a Broker is let in."""
        body = {"peerId": peer_id, "role": role, "routedDomains": list(domains)}
        token = shown.pop("token", None)
        if token is not None:
            body["registrationToken"] = token
        async with Peer(host, self.certs, **shown) as peer:
            stream = peer.open("/verser/register", {"content-type": "application/json"})
            await stream.write(json.dumps(body).encode(), end=True)
            fields = dict(await stream.wait_fields())
            if role == "broker" and fields[b":status"] == b"200":
                return None
            answer = await peer.answer(stream)
            if answer.status == 403:
                await peer.session.wait_lost()
            return answer


def refused(answer: Answer | None) -> str:
    """The reason of a refusal by policy, all of whose parts are there."""
    assert answer is not None, "it was let in"
    assert answer.status == 403, answer
    assert answer.json["status"] == "closed"
    assert answer.error["code"] == "authorization-denied"
    assert answer.error["message"] == answer.json["reason"]
    return str(answer.json["reason"])


def admitted(answer: Answer | None) -> None:
    assert answer is None or answer.json["status"] == "registered", answer
