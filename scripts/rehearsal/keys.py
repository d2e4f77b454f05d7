"""Access tokens of the rehearsal, and the keys that sign them."""
import json
import time

import jwt
from cryptography.hazmat.primitives.serialization import load_der_private_key

from .processes import ROOT

KEYS = ROOT / "tests/support/keys"


class Signer:
    """A key that signs access tokens: a secret, or a private key with an id."""

    def __init__(self, algorithm, key, key_id=None):
        self.algorithm, self.key, self.key_id = algorithm, key, key_id

    @classmethod
    def from_file(cls, algorithm, name):
        """A private key of the tests. The name of its file is the key's id."""
        return cls(algorithm, load_der_private_key((KEYS / f"{name}.pk8").read_bytes(), None), name)

    def token(self, user, claims=None, typ="JWT"):
        """A token of the user that expires in an hour. A claim that is None is left out."""
        all_claims = {"sub": str(user), "exp": int(time.time()) + 3600, **(claims or {})}
        all_claims = {name: value for name, value in all_claims.items() if value is not None}
        headers = {"typ": typ, **({"kid": self.key_id} if self.key_id else {})}
        return jwt.encode(all_claims, self.key, self.algorithm, headers)

    def public_jwk(self):
        """The public key as an entry of a JSON Web Key Set."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        key = json.loads(algorithm.to_jwk(self.key.public_key()))
        return {**{name: key[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in key},
                "kid": self.key_id, "use": "sig", "alg": self.algorithm}
