# The life of a mapping in Python, by multiprocessing: what c/life.c does in C.
#
#	python3 processes.py fork|forkserver memfd shared size rounds
import mmap
import multiprocessing
import os
import resource
import signal
import sys
import time
from multiprocessing import shared_memory

steps = ["map", "touch", "fork", "child", "access", "grow", "unmap"]
took = {s: [] for s in steps}
faults = {s: 0 for s in steps}


def count():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_minflt + u.ru_majflt


def done(step, start, before):
    took[step].append(time.monotonic_ns() - start)
    faults[step] += count() - before


def work(name):
    m = shared_memory.SharedMemory(name)
    m.buf[1] = 5
    m.close()


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def life(context, size):
    page = mmap.PAGESIZE
    f, t = count(), time.monotonic_ns()
    m = shared_memory.SharedMemory(create=True, size=size)
    done("map", t, f)
    f, t = count(), time.monotonic_ns()
    m.buf[::page] = b"\x01" * (size // page)
    done("touch", t, f)
    f, t = count(), time.monotonic_ns()
    p = context.Process(target=work, args=(m.name,))
    p.start()
    done("fork", t, f)
    p.join()
    done("child", t, f)
    total = m.buf[1]
    f, t = count(), time.monotonic_ns()
    words = m.buf[:min(size, 65536)].cast("Q")
    total += sum(words) & 0xFF
    words.release()
    done("access", t, f)
    f, t = count(), time.monotonic_ns()
    larger = shared_memory.SharedMemory(create=True, size=2 * size)
    larger.buf[:size] = m.buf[:size]
    m.close()
    m.unlink()
    done("grow", t, f)
    larger.buf[2 * size - 1] = 2
    total += 2 * larger.buf[2 * size - 1] + larger.buf[size - page]
    f, t = count(), time.monotonic_ns()
    larger.close()
    larger.unlink()
    done("unmap", t, f)
    return total


def main():
    context = multiprocessing.get_context(sys.argv[1])
    size, rounds = int(sys.argv[4]), int(sys.argv[5])
    life(context, size)  # the first one warms up, and is not counted
    for s in steps:
        took[s].clear()
        faults[s] = 0
    total = sum(life(context, size) for _ in range(rounds))
    p = context.Process(target=crash)
    p.start()
    p.join()
    print("result", total // rounds)
    print("note grow copies")
    print("note crash", "the signal" if p.exitcode == -signal.SIGSEGV else "nothing")
    for s in steps:
        took[s].sort()
        print(s, took[s][rounds // 2], "%.2f" % (faults[s] / rounds))


if __name__ == "__main__":
    main()
