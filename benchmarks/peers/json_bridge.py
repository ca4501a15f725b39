"""The other end of a port as bridges are often begun: JSON in frames of `{:packet, 4}`, base64 in it, a blocking loop.

A request is `{"id": 1, "command": "echo" | "size", "data": "…"}`, where `data` is base64 of what is meant; the answer
has the id and the same data, or its size in bytes. It does nothing else: no check, no log, no worker, no deadline.
"""

import base64
import json
import sys

source, drain = sys.stdin.buffer, sys.stdout.buffer
while header := source.read(4):
    request = json.loads(source.read(int.from_bytes(header)))
    data = base64.b64decode(request["data"])
    if request["command"] == "size":
        data = b"%d" % len(data)
    answer = json.dumps({"id": request["id"], "status": "ok", "data": base64.b64encode(data).decode()}).encode()
    drain.write(len(answer).to_bytes(4) + answer)
    drain.flush()
