// Package shared has locks, rings and an allocator in shared memory, for Go and
// C alike. They survive the death of a child of this program, at any
// instruction.
//
//	m, err := shm.Map(shm.Shared, 4096, nil)
//	l, err := shared.NewMutex(m, 0)
//	switch err := l.Lock(ctx); err {
//	case nil:
//	case shared.ErrOwnerDied:
//		repair(m) // the last owner died with the lock held
//		err = l.Consistent()
//	default:
//		return err
//	}
//	defer l.Unlock()
//
// A child's C code includes shm_shared.h, and has the same lock at the same
// offset: shm_lock((shm_mutex *)addr, NULL). This command puts a copy of the
// header beside your cgo file:
//
//	go run forkshm.example/shm/cmd/childheader shm_shared.h
//
// # Which structure
//
//   - [Mutex]: one process at a time changes something.
//   - [RWMutex]: many read, and few write. A read costs more than a [Mutex] does. So
//     an RWMutex is for reads that take long.
//   - [Semaphore]: at most n at a time do something.
//   - [Event]: something has happened, once and for all that wait.
//   - [Barrier]: n parties begin each round together.
//   - [Ring]: records go from one process to one other, in order.
//   - [Arena]: many things of many sizes, which come and go. A [Ref] names each.
//
// Each is at an offset that is a multiple of [Align]. A lock has 64 bytes, a
// Ring as many as you say, and an Arena the rest of the mapping or a part of it.
// Bytes that are zero become the structure, so a new mapping needs no preparation.
// To make a structure anew, set its bytes to zero while nobody uses it.
//
// # Owners
//
// An owner is a process, and not a goroutine or a thread. Goroutines of one
// process exclude each other, and any of them may unlock. A goroutine that locks
// what it holds waits for itself, as with [sync.Mutex]. A thread of C gets EDEADLK.
// In one process, C can hold or wait for 16 structures at once, and Go for
// 1024.
//
// The owners of a program are its own process, the children of package shm, however
// they were made, and the children of package live. When package shm reaps a child,
// it reads what the child held, and gives that to the others. So this package has
// each child reaped as soon as it ends, even if nobody waits for it. Two kinds of
// process are owners, too, but nobody notices their death, and what they hold stays
// held: children that the program forks by other means, such as shm.Fork and
// live.Fork, and children of children.
//
// Processes of another program that map the same object by shm.MapFile have other
// owners. For them the structure is [ErrKind].
//
// # Rules
//
//   - Make a structure, or find it by the same call, in the process that reaps the
//     children that use it.
//   - A structure is valid as long as what shm.At returns. Do not close or move the
//     mapping while goroutines wait.
//   - A signal handler of C must not lock what the interrupted code may hold.
//
// # Hostile children
//
// A structure is memory that a child can write to. A child that was taken over can
// hold a lock for ever, release it for others, and change what it guards. No
// structure protects against that. Give each wait a context with a deadline, copy
// what you read, and check it. Whatever a child writes, these functions return an
// error or a wrong result: they do not crash this process, and they end with their
// context. See docs/SHARED.md.
package shared

// Align is the alignment of each structure, in bytes: the offset of a structure
// must be a multiple of Align.
const Align = 64

// The sizes of the structures, in bytes.
const (
	MutexSize     = 64
	RWMutexSize   = 64
	SemaphoreSize = 64
	EventSize     = 64
	BarrierSize   = 64
)

// RingHeaderSize is how many bytes of a ring do not hold records. A ring has at
// least 64 bytes more.
const RingHeaderSize = 320
