"""Drives a Jupyter kernel cell by cell from jupyter_client, as a notebook's server does; both are in the job."""

import sys

from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel()
try:
    client.execute_interactive("import random; generator = random.Random(1); total = 0")
    for step in range(100):
        said = []
        reply = client.execute_interactive(
            f"import time; time.sleep(0.03); total += generator.randrange(10**6); print({step}, total)",
            output_hook=lambda message, said=said: said.append(message["content"].get("text", "")),
            timeout=20,
        )
        if reply["content"]["status"] != "ok":
            sys.exit(str(reply["content"]))
        print("cell", "".join(said).strip(), flush=True)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
