"""A small server on this machine that speaks OpenAI's protocol and answers as a function says."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def chat_server(answer):
    """Yield (address, requests): `answer(prompt, number of earlier requests)` is a text or an HTTP status."""
    requests = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(requests)
                requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
            said = answer(prompt, number)
            if isinstance(said, int):
                self.reply(said, {"error": {"message": "no", "code": str(said)}})
                return
            choice = {"index": 0, "finish_reason": "stop"}
            choice |= (
                {"message": {"role": "assistant", "content": said}} if "messages" in body else {"text": said}
            )
            usage = {"prompt_tokens": len(prompt), "completion_tokens": len(said)}
            self.reply(200, {"id": "x", "model": body["model"], "choices": [choice], "usage": usage})

        def reply(self, status, value):
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
