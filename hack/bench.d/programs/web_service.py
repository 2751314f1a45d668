"""Serves by gunicorn or uvicorn, and asks it over and over from the same job; again where a request breaks.

web_service.py gunicorn|uvicorn
"""

import http.client
import json
import subprocess
import sys
import time


def wsgi(environ, start_response):
    """Square a number, slowly."""
    number = int(environ["PATH_INFO"].strip("/"))
    time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(number**2).encode()]


async def asgi(scope, receive, send):
    """Square a number."""
    if scope["type"] != "http":
        return
    number = int(scope["path"].strip("/"))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(number**2).encode()})


SERVERS = {
    "gunicorn": ("gunicorn", "--workers=2", "--threads=2", "--bind=127.0.0.1:8000", "--log-level=warning"),
    "uvicorn": ("uvicorn", "--workers=2", "--host=127.0.0.1", "--port=8000", "--log-level=warning"),
}


def main(kind):
    application = {"gunicorn": "web_service:wsgi", "uvicorn": "web_service:asgi"}[kind]
    command = (sys.executable, "-m", *SERVERS[kind], application)
    with subprocess.Popen(command, cwd="/opt/programs") as server:
        connection = None
        number = 0
        while number < 200:
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", 8000, timeout=5)
                connection.request("GET", f"/{number}")
                print("asked", number, json.loads(connection.getresponse().read()), flush=True)
                number += 1
                time.sleep(0.02)
            except (OSError, http.client.HTTPException) as fault:
                print("again:", fault, file=sys.stderr)
                connection = None
                time.sleep(0.1)
        server.terminate()


if __name__ == "__main__":
    main(sys.argv[1])
