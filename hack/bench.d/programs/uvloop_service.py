"""Talks between the tasks of a loop of uvloop: over Unix and TCP sockets, a child's pipes, timers and threads."""

import asyncio
import hashlib

import uvloop


async def answer(reader, writer):
    while line := await reader.readline():
        writer.write(hashlib.sha256(line).hexdigest().encode() + b"\n")
        await writer.drain()
    writer.close()


async def ask(connect, text):
    """Ask over a connection of its own, again if that breaks."""
    while True:
        try:
            reader, writer = await connect()
            writer.write(text + b"\n")
            said = await reader.readline()
            writer.close()
            if said:
                return said.strip().decode()
        except OSError:
            pass
        await asyncio.sleep(0.05)


async def main():
    print("loop", type(asyncio.get_running_loop()).__module__, flush=True)
    await asyncio.start_unix_server(answer, "/var/tmp/answers.sock")
    await asyncio.start_server(answer, "127.0.0.1", 9000)
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("/usr/bin/cat", stdin=pipe, stdout=pipe)
    text = b"begin"
    for step in range(150):
        by_unix = await ask(lambda: asyncio.open_unix_connection("/var/tmp/answers.sock"), text)
        by_tcp = await ask(lambda: asyncio.open_connection("127.0.0.1", 9000), text)
        child.stdin.write(by_unix.encode() + b"\n")
        text = (await child.stdout.readline()).strip()
        in_thread = await asyncio.to_thread(lambda said=text: hashlib.sha256(said).hexdigest())
        await asyncio.sleep(0.03)
        print("step", step, by_tcp == by_unix, in_thread, flush=True)
    child.stdin.close()
    await child.wait()


uvloop.run(main())
