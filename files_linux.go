package shm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"forkshm.example/shm/internal/highfd"
)

// childFiles are the files of ForkConfig: a child's standard files and its working directory. A
// child that is forked while descriptors for them are open here inherits them. So pipes are open
// for the child only while syscall.ForkLock is held.
type childFiles struct {
	stdin          *os.File
	stdout, stderr io.Writer

	dir     *os.File // or nil
	theirs  []int    // the descriptors to close after the fork
	outputs []*output
}

// openDir opens the working directory. An empty path is none.
func (f *childFiles) openDir(path string) error {
	if path == "" {
		return nil
	}
	fd, err := highfd.Open(func() (int, error) {
		return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	f.dir = os.NewFile(uintptr(fd), path)
	return nil
}

// areUsed reports whether the child has other files than its parent.
func (f *childFiles) areUsed() bool {
	return f.dir != nil || f.stdin != nil || f.stdout != nil || f.stderr != nil
}

// addTo makes the child of args have the files, whose pipes addTo opens.
func (f *childFiles) addTo(args *forkArgs) error {
	if f.dir != nil {
		args.dirFD = int32(f.dir.Fd())
	}
	if f.stdin != nil {
		if err := f.pass(args, 0, "Stdin", f.stdin); err != nil {
			return err
		}
	}
	if err := f.addWriter(args, 1, "Stdout", f.stdout); err != nil {
		return err
	}
	if f.stderr != nil && sameWriter(f.stdout, f.stderr) && args.files[1] != 0 {
		return f.passFD(args, 2, "Stderr", uintptr(args.files[1])) // one pipe, so one Write at a time
	}
	return f.addWriter(args, 2, "Stderr", f.stderr)
}

// sameWriter reports whether two writers are the same one.
func sameWriter(a, b io.Writer) bool {
	defer func() { _ = recover() }() // some values cannot be compared
	return a == b
}

func (f *childFiles) addWriter(args *forkArgs, at int, field string, w io.Writer) error {
	switch w := w.(type) {
	case nil:
		return nil
	case *os.File:
		return f.pass(args, at, field, w)
	}
	var ends [2]int
	err := unix.Pipe2(ends[:], unix.O_CLOEXEC)
	if ends, err = highfd.LiftPair(ends, err); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	_ = unix.SetNonblock(ends[0], true)
	f.outputs = append(f.outputs, &output{
		field: field, from: os.NewFile(uintptr(ends[0]), field), to: w, copied: make(chan error, 1),
	})
	f.theirs = append(f.theirs, ends[1])
	args.files[at] = int32(ends[1])
	args.drop[len(f.outputs)-1] = int32(ends[0])
	return nil
}

// pass makes a file the child's descriptor number at.
func (f *childFiles) pass(args *forkArgs, at int, field string, file *os.File) error {
	if file == nil {
		return fmt.Errorf("ForkConfig.%s is a nil *os.File: %w", field, unix.EINVAL)
	}
	return f.passFD(args, at, field, file.Fd()) // Fd makes the file block, as C expects it to
}

func (f *childFiles) passFD(args *forkArgs, at int, field string, from uintptr) error {
	fd, err := highfd.Duplicate(from)
	if err != nil {
		return fmt.Errorf("ForkConfig.%s: %w", field, os.NewSyscallError("fcntl", err))
	}
	f.theirs = append(f.theirs, fd)
	args.files[at] = int32(fd)
	return nil
}

// forked closes the descriptors that only the child needs.
func (f *childFiles) forked() {
	for _, fd := range f.theirs {
		_ = unix.Close(fd)
	}
	f.theirs = nil
	if f.dir != nil {
		_ = f.dir.Close() // a second Close is refused
	}
}

// abandon closes what is open for a child that there is not.
func (f *childFiles) abandon() {
	f.forked()
	for _, o := range f.outputs {
		_ = o.from.Close()
	}
}

// copyOutputs begins to copy what the child writes, and returns what Wait waits for.
func (f *childFiles) copyOutputs() []*output {
	for _, o := range f.outputs {
		go o.copy()
	}
	return f.outputs
}

// output copies what a child writes to its end of a pipe.
type output struct {
	field  string // of ForkConfig
	from   *os.File
	to     io.Writer
	copied chan error // gets the result of copy
}

const (
	// outputDelay is how long a child's pipe may stay open after the child's end. Processes that
	// the child left behind may have the pipe, and may never end.
	outputDelay = 200 * time.Millisecond

	// writerDelay is how long a writer may take after that for what the child has written.
	writerDelay = 10 * time.Second
)

// copy copies until all processes that have the other end have closed it, or until finish ends that.
func (o *output) copy() {
	defer o.from.Close() // if the writer fails, the child gets SIGPIPE
	_, err := io.Copy(o.to, o.from)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = o.copyRest()
	}
	o.copied <- err
}

// copyRest copies what is in the pipe now. Others may write on, or read from it, meanwhile.
func (o *output) copyRest() error {
	conn, err := o.from.SyscallConn()
	if err != nil {
		return err
	}
	const ioctlFIONREAD = unix.TIOCINQ
	var rest []byte
	controlErr := conn.Control(func(fd uintptr) {
		var n int
		if n, err = unix.IoctlGetInt(int(fd), ioctlFIONREAD); err != nil || n == 0 {
			return
		}
		rest = make([]byte, min(n, 1<<20)) // what a pipe can have, unless its size was raised
		n, err = unix.Read(int(fd), rest)
		rest = rest[:max(n, 0)]
	})
	if err == nil {
		err = controlErr
	}
	if err != nil && err != unix.EAGAIN {
		return err
	}
	if len(rest) > 0 {
		_, err = o.to.Write(rest)
		return err
	}
	return nil
}

// finish waits until what the child has written is copied. The child has ended.
func (o *output) finish() error {
	timer := time.NewTimer(outputDelay)
	defer timer.Stop()
	select {
	case err := <-o.copied:
		return o.describe(err)
	case <-timer.C:
	}
	_ = o.from.SetReadDeadline(time.Unix(1, 0))
	timer.Reset(writerDelay)
	select {
	case err := <-o.copied:
		return o.describe(err)
	case <-timer.C:
		return o.describe(fmt.Errorf("the writer has not returned within %v", writerDelay))
	}
}

func (o *output) describe(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("copy of ForkConfig.%s: %w", o.field, err)
}
