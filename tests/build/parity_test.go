//go:build linux && cgo

package build_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"forkshm.example/shm/internal/testenv"
)

// A port in a module of its own, and the test that holds it against its
// original.
const (
	original = `
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	int *n = mmap(NULL, 4, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(++*n);
	waitpid(pid, &status, 0);
	printf("%d\n", *n);
	return 0;
}
`
	port = `package main

// #include <stddef.h>
// int child(int *n, size_t length) { return ++*n; }
import "C"

import (
	"fmt"
	"unsafe"

	"forkshm.example/shm"
)

func main() {
	m, _ := shm.Map(shm.Shared, 4, &shm.Config{Technique: shm.Anonymous})
	pid, _ := shm.Fork(shm.ChildFunc(C.child), m.Addr(), m.Len())
	shm.Waitpid(pid, 0)
	fmt.Println(*(*int32)(unsafe.Pointer(m.Addr())))
}
`
	portTest = `package main

import (
	"testing"

	"forkshm.example/shm/parity"
)

const flags = "FLAGS"

func TestPort(t *testing.T) {
	g := parity.BuildGo(t, ".")
	c := parity.CompileC(t, "-DFLAGS=" + flags, "-x", "c", "original.c.txt")
	parity.SameOutput(t, c, g)
	parity.SameMaps(t, c, g)
	parity.SameSyscalls(t, c, g, parity.Calls("mmap", "clone", "wait4"))
}
`
)

func TestOutsideModuleUsesParity(t *testing.T) {
	testenv.NeedTime(t)
	testenv.NeedStrace(t)
	dir := outsideModule(t, must(filepath.Abs(".")))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("main.go", port)
	write("original.c.txt", original) // go build would compile a .c file
	for flags, want := range map[string]string{
		"MAP_SHARED|MAP_ANONYMOUS":               "",
		"MAP_SHARED|MAP_ANONYMOUS|MAP_NORESERVE": "the system calls differ",
		"MAP_PRIVATE|MAP_ANONYMOUS":              "the outputs differ",
	} {
		write("main_test.go", strings.Replace(portTest, `"FLAGS"`, `"`+flags+`"`, 1))
		test := exec.Command("go", "test", "-count=1", ".")
		test.Dir = dir
		out, err := test.CombinedOutput()
		if want == "" {
			assert.NoError(t, err, "%s", out)
			continue
		}
		assert.Error(t, err)
		assert.Contains(t, string(out), want)
	}
}
