"""A job that bears a child at each proof; all earlier children must still be there and answer."""

from __future__ import annotations

import os

from tests.jobs import proving


class Child:
    """A process that answers each byte with its own PID and its parent's."""

    def __init__(self) -> None:
        there, self._ask = os.pipe()
        self._answer, back = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._ask)
            while os.read(there, 1):
                os.write(back, b"%d %d\n" % (os.getpid(), os.getppid()))
            os._exit(0)
        os.close(there)
        os.close(back)

    def prove(self) -> None:
        """Fail unless it lives and is still a child of ours."""
        os.write(self._ask, b"?")
        answer = os.read(self._answer, 64).decode()
        proving.check_equal(answer, f"{self.pid} {os.getpid()}\n", "a child's answer")


def main() -> None:
    """Bear the first child, then one at each proof."""
    proving.block()
    born = [Child()]

    def prove(count: int) -> None:
        for child in born:
            child.prove()
        born.append(Child())
        proving.say(f"children {' '.join(str(child.pid) for child in born)}")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
