"""Says which signals it gets, and proves that it goes on; SIGHUP it does not handle."""

from __future__ import annotations

import signal
import time

from tests.jobs import proving


def main() -> None:
    heard: list[str] = []

    def hear(number: int, frame: object) -> None:
        time.sleep(0.2)  # it takes a while to do what it has to
        heard.append(signal.Signals(number).name)
        proving.say(f"heard {heard[-1]} {len(heard)}")

    proving.block()
    for number in (signal.SIGALRM, signal.SIGWINCH, signal.SIGURG):
        signal.signal(number, hear)
    proving.say("ready")
    count = 0
    while signal.sigwaitinfo({proving.ASK, proving.FINISH}).si_signo == proving.ASK:
        count += 1
        proving.say(f"proved {count}")


if __name__ == "__main__":
    main()
