// Package shm gives Go programs the real mmap, fork, waitpid and mremap of
// Linux: memory outside the Go heap, children made by fork(2) that share this
// memory, and memory that grows without a copy.
//
// The package needs Linux 5.10 or later, and cgo. In other builds the package
// compiles, and its functions return an error that wraps
// [errors.ErrUnsupported]. What needs a later Linux says so in its comment, and
// fails with such an error on an earlier one.
//
// # Mappings
//
// A [Mapping] is memory outside the Go heap. [Map] makes one, either [Private]
// or [Shared] with the children:
//
//	m, err := shm.Map(shm.Shared, 4096, nil)
//	...
//	value, err := shm.At[int32](m, 0) // a *int32 at offset 0
//
// There are three techniques to get memory from the kernel. [Anonymous] and
// [DevZero] are the two techniques of The Linux Programming Interface, section
// 49.7. The build tag devzero makes DevZero the default, as leaving out
// USE_MAP_ANON does in the book. [Memfd] is the technique whose shared mappings
// can grow.
//
// What a mapping can do:
//
//   - To grow a mapping in place, set Config.Reserve. Beyond the reserve,
//     [Mapping.Resize] with [MayMove] can move the mapping to another address,
//     without a copy. Then no reserve is left.
//   - To grow shared memory while children are live, use Memfd and
//     Config.Reserve. A child that was forked earlier can use the new bytes at
//     the same address.
//   - To shrink a shared Memfd while children are live, call
//     [Mapping.Truncate]. Resize refuses with [ErrLive], since an access beyond
//     the new length would be SIGBUS in the children. Children of the raw
//     [Fork], and children of children, are not counted.
//   - To learn the present length, call [Mapping.Len] for the mapping, and
//     [Mapping.ObjectLen] for the object behind a shared Memfd, which any
//     process can grow. C code includes csrc/shm_child.h and calls
//     shm_object_length.
//   - To share with a process that is no child, pass the descriptor that
//     [Mapping.File] returns. The other process calls [MapFile]. [Mapping.Seal]
//     can forbid shrinking.
//   - To be sure that memory is there, set Config.Populate. Then a machine
//     without enough memory is an error of Map or Resize, and not a later
//     SIGBUS.
//   - To use huge pages, set Config.Huge. [HugeTransparent] aligns the mapping
//     and advises the kernel. [HugeExplicit] uses MAP_HUGETLB. If too few such
//     pages are left, the mapping has pages of the usual size, and
//     [Mapping.Huge] returns [HugeNone]. A HugeExplicit mapping cannot move,
//     nor grow past its last huge page.
//   - To get a fault instead of an overrun, set Config.Guard, or call
//     [Mapping.Protect].
//   - To keep memory from being swapped out, call [Mapping.Lock]. What Resize
//     adds is locked too.
//   - To advise the kernel, call [Mapping.Advise]. Advice for pages stays with
//     the pages when Resize moves them.
//   - To see what a mapping takes, call [Mapping.Stats].
//   - To copy a whole mapping to a writer or from a reader, call
//     [Mapping.WriteTo] or [Mapping.ReadFrom].
//   - To move pages instead of copying bytes, call [Mapping.MoveTo],
//     [Mapping.Detach], [Mapping.Swap] or [Mapping.SwapPages]. Detach and the
//     swaps need private memory. For less than a MiB or two, a copy takes less
//     time.
//
// A private Memfd takes a page twice after a write to it, since the object
// keeps its own page. If a shared Memfd with a reserve is shorter than the
// reserve, an access behind its end is SIGBUS, and not SIGSEGV.
//
// # Children
//
// [Mapping.Fork] forks a child that runs a C function on the mapping:
//
//	child, err := m.Fork(shm.ChildFunc(C.work), nil) // int work(void *addr, size_t length)
//	...
//	err = child.Wait(ctx) // nil if work returned 0
//
// [Call] forks a child, waits, and kills the child if ctx ends first. If the
// function crashes, the program goes on:
//
//	err := shm.Call(ctx, shm.ChildFunc(C.parse), m, &shm.ForkConfig{Lean: true})
//	var ended *shm.ExitError
//	switch {
//	case err == nil: // parse returned 0, and its results are in m
//	case errors.As(err, &ended): // parse crashed, or returned another status
//	case errors.Is(err, context.DeadlineExceeded): // the child was killed
//	}
//
// The Go runtime does not survive a fork, so the child runs C code only. If
// that code calls an exported Go function, the child ends with status 2, and
// Wait says why. The child ends in _exit(2) with the result of its function. So
// the function must flush what it printed, and atexit handlers do not run. Of
// the parent's threads, the child has only the one that forked. A lock that
// another thread held at the fork stays held in the child. malloc and stdio
// work, since the C library frees their locks in the child. A library that has
// threads of its own has none in the child; the doc of Fork says which
// libraries work.
//
// A program sets in [ForkConfig] what a child gets:
//
//   - KillWithParent ends the child when its parent ends, in whatever way. A
//     parent that calls exec ends in this sense too.
//   - Lean leaves the Go heap out of the child, so that a fork does not take
//     longer with a larger heap. Lean is not the default, since C code may hold
//     Go memory, and would crash in a Lean child. C code of another thread that
//     forks at the same moment gets a child without the Go heap too. Set Lean
//     if the child's function uses only the mapping and C's own memory.
//   - Limits and Nice set resource limits and niceness.
//   - CloseFDs closes the inherited descriptors, except for those in KeepFDs.
//   - ProcessGroup gives the child a process group of its own. When the child
//     ends, the rest of the group is killed.
//   - Stdin, Stdout, Stderr and Dir are as in os/exec. Arg is a number for the
//     child's function.
//   - MemoryLimit limits what the child maps beyond what it inherits.
//   - NoOOMScore leaves the child's oom_score_adj as it is. Without it, the
//     kernel kills the child first when memory runs out.
//   - NoCrashReport leaves the signals of a crash at their default.
//   - Sandbox restricts what the child can do: see below.
//
// If a setting cannot be had, Fork fails and there is no child.
//
// ExitError.Crash says where a child crashed: the address, the instruction, the
// module, and the function. [Process] has methods to signal, stop and measure a
// child. [ReadCounters] counts all children of the program, for expvar for
// example.
//
// Package live forks a child in which Go goes on running.
//
// # Sandboxes
//
// A parser that reads input of strangers may be taken over by it. Such a child
// can do what its parent can do, unless it has a [Sandbox]:
//
//	cfg := &shm.ForkConfig{Lean: true, Sandbox: new(shm.Sandbox)}
//	err := shm.Call(ctx, shm.ChildFunc(C.parse), m, cfg)
//	var ended *shm.ExitError
//	if errors.As(err, &ended) && ended.Denied != nil {
//		log.Printf("parse tried %s", ended.Denied.Name) // "openat"
//	}
//
// The child computes on its memory, and reads and writes descriptors that it was
// given. It opens no files, makes no sockets and no processes, has no
// capabilities, and makes no memory executable. Sandbox.Allow and Sandbox.Paths
// allow more. Sandbox.ReadOnly keeps parts of a Memfd mapping from being written.
// All of this needs no privilege. docs/SECURITY.md says what an exploited child
// can still do. Above all, it can read the memory that the fork copied.
//
// # Pools
//
// A [Pool] has children that exist already, and that serve one call after
// another. A call to a pool takes microseconds, and a fork takes more:
//
//	pool, err := shm.NewPool(m, 4, &shm.PoolConfig{Fork: shm.ForkConfig{Lean: true}})
//	...
//	n, err := pool.Call(ctx, shm.ChildFunc(C.parse), off, length) // parse(addr + off, length)
//
// [Pool.Do] passes bytes in, and returns bytes. Each child has memory of its own
// for them, so callers need no mapping and no bookkeeping:
//
//	pool, err := shm.NewPool(nil, 4, nil)
//	...
//	out, err := pool.Do(ctx, shm.DoFunc(C.parse), in)
//
// The C function makes its answer by shm_out_reserve. Its header shm_child.h
// comes into a package's folder by
//
//	go run forkshm.example/shm/cmd/childheader
//
//	int parse(const void *in, size_t in_length, struct shm_out *out)
//	{
//		char *answer = shm_out_reserve(out, in_length); // NULL beyond PoolConfig.MaxOut
//		...
//		return 0;
//	}
//
// A crash or a missed deadline ends that call and its child. The pool replaces
// the child, at a limited rate. The children of a pool end with their parent.
// They inherit no descriptors, unless PoolConfig.InheritFDs is set.
//
// # Fork servers
//
// A fork pauses this process for the copy of its page tables. A [ForkServer] is
// a small process that is forked once, and that forks the children from then
// on. They are children of this process all the same:
//
//	s, err := m.ForkServer(&shm.ForkServerConfig{Init: shm.ChildFunc(C.load_fonts)})
//	...
//	child, err := s.Fork(shm.ChildFunc(C.work))       // a Process like any other
//	err = s.Call(ctx, shm.ChildFunc(C.parse))         // fork, wait, kill at ctx's end
//
// Make the server early, and after the mapping. Init runs once in the server.
// Its children find the work done. PoolConfig.ForkServer makes a pool fork its
// children in this way.
//
// # Buffers
//
// A [Buffer] is an append buffer outside the Go heap. The zero value is ready
// to use. A Buffer grows by mremap(2), so that no byte is copied twice:
//
//	var b shm.Buffer
//	defer b.Close()
//	if _, err := b.ReadFrom(r); err != nil {
//		log.Fatal(err)
//	}
//	use(b.Bytes()) // valid until the next call that writes, grows or closes
//
// # Rules
//
// A program that uses the package keeps these rules:
//
//   - Close a mapping, or keep the Mapping reachable. An unreachable Mapping is
//     unmapped. Memory from [Mapping.Bytes], [At] and [Slice] does not keep it
//     reachable.
//   - After a Resize that moves or shrinks, and after MoveTo and Close, do not
//     use what Bytes, Addr, At and Slice returned before. Such an access
//     crashes the program, or finds memory of another owner. [Mapping.ReadAt]
//     and [Mapping.WriteAt] are always safe.
//   - Do not expect a shared mapping to grow past the size that it was created
//     with, unless it is a Memfd. The kernel would allow it, and the first
//     access would be SIGBUS. Resize refuses with [ErrGrowShared]. Create the
//     mapping larger, or set Config.Reserve.
//   - If memory may fail, use ReadAt, WriteAt, ReadFrom, WriteTo or a Buffer.
//     Memory fails when another process shrinks its object, or when it is
//     protected. These methods return a [FaultError]. The same access through
//     Bytes, At or Slice crashes the program.
//   - The child's function must not be static, since Go takes its address, and
//     must not call Go.
//   - A child inherits every open descriptor, unless CloseFDs closes them. The
//     reader of an inherited pipe sees no end of file before the child ends.
//   - Wait for every child. A child that has ended is a zombie until Wait reaps
//     it, or until its Process is unreachable. Never call [Waitpid] with a pid
//     of -1 in a program that uses os/exec.
//   - A fork copies the page tables of private memory. A GiB of private memory
//     adds tens of milliseconds to a fork. Shared memory adds nothing. Lean
//     leaves out the Go heap.
//   - Several goroutines may call methods of one Mapping at the same time.
//     Accesses through Bytes, At and Slice need an order of their own. Between
//     processes, use sync/atomic, C's atomics, or Wait. The race detector does
//     not see this memory.
//
// # The calls as C has them
//
// [Mmap], [Munmap], [Mremap], [Fork] and [Waitpid] are the system calls with
// the arguments that they have in C. They check nothing, keep nothing, and
// return a plain [unix.Errno]. They are for ports that need parity with C.
//
// [unix.Errno]: https://pkg.go.dev/golang.org/x/sys/unix#Errno
package shm
