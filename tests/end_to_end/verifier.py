"""Says of each request, one a line of JSON, whether its signature is by the key: by the code of AWS's own library."""
import base64, json, sys, types, urllib.parse
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

key, secret, token = sys.argv[1:4]


def verified(asked):
    headers = {name.lower(): value for name, value in asked["headers"]}
    scheme, _, rest = headers["authorization"].partition(" ")
    said = dict(part.strip().split("=", 1) for part in rest.split(","))
    used, day, region, service, end = said["Credential"].split("/")
    if (scheme, used, end) != ("AWS4-HMAC-SHA256", key, "aws4_request") or headers.get("x-amz-security-token") != token:
        return False
    names = said["SignedHeaders"].split(";")
    if "x-amz-security-token" not in names or not headers["x-amz-date"].startswith(day):
        return False
    target = urllib.parse.urlsplit("https://" + headers["host"] + asked["target"])
    body = base64.b64decode(asked["body"])
    kept = {name: value for name, value in headers.items() if name in names}
    request = AWSRequest(asked["method"], target.geturl(), headers=kept, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    request.context["signing"] = {}
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(key, secret, token), service, region)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return auth.signature(text, request) == said["Signature"]


for line in sys.stdin:
    try:
        answer = verified(json.loads(line))
    except Exception as error:
        print(repr(error), file=sys.stderr)
        answer = False
    print(json.dumps(answer), flush=True)
