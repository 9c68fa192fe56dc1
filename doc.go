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
//     without a copy. After a move the mapping has no reserve.
//   - To grow shared memory while children are live, use Memfd and
//     Config.Reserve. A child that was forked earlier can use the new bytes at
//     the same address.
//   - To shrink a shared Memfd while children are live, call
//     [Mapping.Truncate]. Resize refuses with [ErrLive], since an access beyond
//     the new length would be SIGBUS in the children. Children of the raw
//     [Fork], and children of children, are not counted.
//   - To learn the present length, call [Mapping.Len] for the mapping, and
//     [Mapping.ObjectLen] for the object behind a shared Memfd. Any process
//     that has the object can grow it. C code includes csrc/shm_child.h and
//     calls shm_object_length.
//   - To share with a process that is no child, pass the descriptor that
//     [Mapping.File] returns. The other process calls [MapFile]. [Mapping.Seal]
//     can forbid shrinking.
//   - To be sure that memory is there, set Config.Populate. Then Map and Resize
//     fail if the machine has too little memory. Without Populate, a later
//     access would be SIGBUS.
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
// After a write to a page of a private Memfd, there are two copies of the page:
// one in the mapping, and one in the object. A shared Memfd with a reserve maps
// the whole reserve. So an access beyond Len is SIGBUS there, and not SIGSEGV.
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
// Wait says why. When the function returns, the child calls _exit(2) with the
// result. So the function must flush stdio itself, and atexit handlers do not
// run. Of the parent's threads, the child has only the one that forked. A lock
// that another thread held at the fork stays held in the child. malloc and
// stdio work, since the C library frees their locks in the child. A library's
// own threads are missing in the child: the doc of Fork says which libraries
// work.
//
// A program sets in [ForkConfig] what a child gets:
//
//   - KillWithParent ends the child when its parent ends, in whatever way, or
//     calls execve(2).
//   - Lean leaves the Go heap out of the child, so that a fork does not take
//     longer with a larger heap. Lean is not the default: C code that keeps
//     pointers to Go memory crashes in a Lean child. If C code of another
//     thread forks at the same moment, its child lacks the Go heap, too. Set
//     Lean if the child's function uses only the mapping and C's own memory.
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
// Input from a stranger may take over the C code that parses it. A child that
// was taken over can do what its parent can do, unless the child has a
// [Sandbox]:
//
//	cfg := &shm.ForkConfig{Lean: true, Sandbox: new(shm.Sandbox)}
//	err := shm.Call(ctx, shm.ChildFunc(C.parse), m, cfg)
//	var ended *shm.ExitError
//	if errors.As(err, &ended) && ended.Denied != nil {
//		log.Printf("parse tried %s", ended.Denied.Name) // "openat"
//	}
//
// The child computes on its memory, and reads and writes descriptors that it
// was given. It cannot open files, make sockets or processes, or make memory
// executable, and it has no capabilities. Sandbox.Allow and Sandbox.Paths allow
// more. Sandbox.ReadOnly keeps parts of a Memfd mapping from being written. All
// of this needs no privilege. docs/SECURITY.md says what an exploited child can
// still do. Above all, it can read the memory that the fork copied.
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
// The C function makes its answer by shm_out_reserve, which shm_child.h
// declares. This command writes the header to a package's folder:
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
// on. They are children of this process, as all others are:
//
//	s, err := m.ForkServer(&shm.ForkServerConfig{Init: shm.ChildFunc(C.load_fonts)})
//	...
//	child, err := s.Fork(shm.ChildFunc(C.work))       // a Process like any other
//	err = s.Call(ctx, shm.ChildFunc(C.parse))         // fork, wait, kill at ctx's end
//
// Make the server early, and after the mapping. Init runs once, in the server,
// and each child begins with what Init has done. PoolConfig.ForkServer makes a
// pool fork its children in this way.
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
//     crashes the program, or reads or damages memory of another owner.
//     [Mapping.ReadAt] and [Mapping.WriteAt] are always safe.
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
//   - A child inherits every open descriptor, unless CloseFDs closes them. If
//     the child has inherited the writing end of a pipe, the reader sees no end
//     of file before the child ends.
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
