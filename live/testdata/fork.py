# fork.py COUNT MIB: as fork.c, by Python's os.fork.
import mmap, os, struct, sys, time

count, size = int(sys.argv[1]), int(sys.argv[2]) << 20
heap = bytearray(b"\1") * size
begun = mmap.mmap(-1, 8)
pause = first = total = 0
for _ in range(count):
    start = time.monotonic_ns()
    pid = os.fork()
    if pid == 0:
        begun[:8] = struct.pack("q", time.monotonic_ns())
        os._exit(0)
    forked = time.monotonic_ns()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        sys.exit(1)
    total += time.monotonic_ns() - start
    pause += forked - start
    first += struct.unpack("q", begun[:8])[0] - start
print(pause // count, first // count, total // count)
