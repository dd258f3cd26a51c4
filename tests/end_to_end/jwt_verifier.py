"""Makes an RSA key and tells it in both forms, then says of each JSON Web Token what it claims, if that key signed it."""

import json
import sys

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

key = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(form):
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


forms = serialization.PrivateFormat
print(json.dumps({"pkcs1": pem(forms.TraditionalOpenSSL), "pkcs8": pem(forms.PKCS8)}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        # The server judges times by its own clock.
        options = {"verify_exp": False, "verify_iat": False, "verify_aud": asked["audience"] is not None}
        claims = jwt.decode(
            asked["jwt"], key.public_key(), algorithms=["RS256"], audience=asked["audience"], options=options
        )
        print(json.dumps({"claims": claims}), flush=True)
    except jwt.InvalidTokenError as error:
        print(json.dumps({"error": str(error)}), flush=True)
