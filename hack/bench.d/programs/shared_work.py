"""Shares work between processes of multiprocessing: by shared memory, a manager, queues, a pool and locks."""

import multiprocessing
import time
from multiprocessing.shared_memory import SharedMemory


def work(name, tasks, done, lock, places):
    memory = SharedMemory(name, track=False)
    while (task := tasks.get()) is not None:
        with places:
            time.sleep(0.01)
            with lock:
                memory.buf[task % 1000] = (memory.buf[task % 1000] + task * 7) % 256
        done.put(task)
    memory.close()


def power(number):
    return pow(3, number, 1_000_003)


def main():
    context = multiprocessing.get_context("spawn")
    memory = SharedMemory(create=True, size=1000)
    tasks, done = context.Queue(), context.Queue()
    lock, places = context.Lock(), context.BoundedSemaphore(2)
    workers = [context.Process(target=work, args=(memory.name, tasks, done, lock, places)) for _ in range(3)]
    for worker in workers:
        worker.start()
    with context.Manager() as manager, context.Pool(2) as pool:
        book = manager.dict()
        for step in range(120):
            for number in range(6):
                tasks.put(step * 6 + number)
            book[step % 10] = sum(pool.map(power, range(step, step + 8)))
            finished = sorted(done.get() for _ in range(6))
            total = sum(book.values())
            print("step", step, finished[-1], total, sum(memory.buf), flush=True)
    for _ in workers:
        tasks.put(None)
    for worker in workers:
        worker.join()
    memory.close()
    memory.unlink()


if __name__ == "__main__":
    main()
