// Command childheader writes C headers of package shm into the current directory.
// Run it in the package whose cgo files include the header:
//
//	go run forkshm.example/shm/cmd/childheader
//	go run forkshm.example/shm/cmd/childheader shm_child.h shm_shared.h
//
// Without arguments the command writes shm_child.h, for the C code of a child.
// shm_shared.h is for C code that uses what package shared has.
//
// cgo finds the copy in every module layout, without a setting of the
// environment: with the module in the module cache, replaced, or vendored, and
// in a package that others import. Commit the copy. Run the command again after
// an update of package shm, for example by a go:generate line. A copy of an
// older version stays valid: it lacks what is new.
//
// In a module that vendors, make the command a tool of the module first:
//
//	go get -tool forkshm.example/shm/cmd/childheader
//	go mod vendor
//	go tool childheader
//
// With -check, the command writes nothing. It exits with status 1 if a header
// in the current directory is not that of this version.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	_ "forkshm.example/shm" // sets hook.Headers
	"forkshm.example/shm/internal/hook"
)

func main() {
	check := flag.Bool("check", false,
		"write nothing, and fail if a header is not of this version")
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"shm_child.h"}
	}
	for _, name := range names {
		if err := run(name, *check); err != nil {
			fmt.Fprintln(os.Stderr, "childheader:", err)
			os.Exit(1)
		}
	}
}

func run(name string, check bool) error {
	header, err := hook.Headers.ReadFile("csrc/" + name)
	if err != nil {
		return fmt.Errorf("there is no header %q: shm_child.h and shm_shared.h are there", name)
	}
	old, err := os.ReadFile(name)
	switch {
	case err == nil && bytes.Equal(old, header):
		return nil
	case err != nil && !os.IsNotExist(err):
		return err
	case check && err != nil:
		return err
	case check:
		return fmt.Errorf("%s is not of this version of package shm: run the command without -check", name)
	}
	return os.WriteFile(name, header, 0o666)
}
