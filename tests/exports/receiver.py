"""A receiver of logs over HTTP, as strict as the real ones, in TLS where it is given a certificate.

receiver.py hec|logs|traces OUT PORT [CERT KEY]

Prints its port. Every event that it answers with success for is a line of OUT, on the disk before the answer goes. A file
OUT.say tells how to answer: `STATUS` (and `retry-after`), or `hold` to take and never answer; it is removed after one request.
"""
import json, os, ssl, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

kind, out, port = sys.argv[1:4]
lock = threading.Lock()


def bad(why):
    raise ValueError(why)


def hec(handler, body):
    if handler.headers.get("Authorization") != "Splunk " + os.environ["TOKEN"]:
        return 403, b'{"text":"Invalid token","code":4}', []
    handler.path == "/services/collector/event" or bad(handler.path)
    decoder, text, events = json.JSONDecoder(), body.decode("utf-8"), []
    while text.strip():
        event, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        unknown = set(event) - {"time", "host", "source", "sourcetype", "index", "event", "fields"}
        not unknown or bad(f"unknown {unknown}")
        event.get("event") or bad("no event")
        "time" not in event or float(event["time"])
        all(isinstance(value, (str, int, float, bool, list, type(None))) for value in event["fields"].values()) or bad("nested fields")
        events.append(event)
    events or bad("no data")
    return 200, b'{"text":"Success","code":0}', events


def otlp(handler, body):
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    handler.headers["Content-Type"] == "application/x-protobuf" or bad(handler.headers["Content-Type"])
    request = (ExportLogsServiceRequest if kind == "logs" else ExportTraceServiceRequest)()
    request.ParseFromString(body)
    # What was not understood would be kept aside.
    request.SerializeToString(deterministic=True)
    handler.path == f"/v1/{kind}" or bad(handler.path)
    events = []
    for of in request.resource_logs if kind == "logs" else request.resource_spans:
        resource = MessageToDict(of.resource)
        for scoped in of.scope_logs if kind == "logs" else of.scope_spans:
            for one in scoped.log_records if kind == "logs" else scoped.spans:
                events.append({"resource": resource, "scope": MessageToDict(scoped.scope), "one": MessageToDict(one)})
    return 200, b"", events


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            try:
                said = open(out + ".say").read().split()
                os.remove(out + ".say")
            except FileNotFoundError:
                said = []
            if said and said[0] != "hold":
                self.answer(int(said[0]), b"so it was told", dict(zip(["Retry-After"], said[1:])))
                return
            try:
                status, answer, events = (hec if kind == "hec" else otlp)(self, body)
            except (ValueError, KeyError) as error:
                status, answer, events = 400, str(error).encode(), []
            with open(out, "a") as file:
                file.writelines(json.dumps(event) + "\n" for event in events)
                file.flush()
                os.fsync(file.fileno())
        if said:
            print("held", flush=True)
            threading.Event().wait()
        self.answer(status, answer, {})

    def answer(self, status, body, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", int(port)), Handler)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
