"""Sends tasks to a Celery worker through a broker and a result store in files; one after another."""

import subprocess
import sys
from pathlib import Path

from celery import Celery

FOLDER = Path("/var/tmp/celery")
app = Celery("celery_tasks", broker="filesystem://", backend=f"file://{FOLDER}/results")
app.conf.broker_transport_options = {
    "data_folder_in": f"{FOLDER}/queue",
    "data_folder_out": f"{FOLDER}/queue",
    "control_folder": f"{FOLDER}/control",
    "polling_interval": 0.05,
}


@app.task
def cube(number):
    return number**3


def main():
    for name in ("results", "queue", "control"):
        (FOLDER / name).mkdir(parents=True)
    command = (
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_tasks",
        "worker",
        "--concurrency=2",
        "--loglevel=ERROR",
    )
    with subprocess.Popen(command, cwd="/opt/programs", stdout=sys.stderr) as worker:
        for step in range(60):
            print("task", step, cube.delay(step).get(timeout=60, interval=0.02), flush=True)
        worker.terminate()


if __name__ == "__main__":
    main()
