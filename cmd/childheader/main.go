// Command childheader writes the C header shm_child.h, for the C code of a
// child, into the current directory. Run it in the package whose cgo files
// include the header:
//
//	go run forkshm.example/shm/cmd/childheader
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
// With -check, the command writes nothing. It exits with status 1 if the header
// in the current directory is not that of this version.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	_ "forkshm.example/shm" // sets hook.ChildHeader
	"forkshm.example/shm/internal/hook"
)

const name = "shm_child.h"

func main() {
	check := flag.Bool("check", false,
		"write nothing, and fail if the header is not of this version")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "childheader:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	old, err := os.ReadFile(name)
	switch {
	case err == nil && bytes.Equal(old, hook.ChildHeader):
		return nil
	case err != nil && !os.IsNotExist(err):
		return err
	case check && err != nil:
		return err
	case check:
		return fmt.Errorf("%s is not of this version of package shm: run the command without -check", name)
	}
	return os.WriteFile(name, hook.ChildHeader, 0o666)
}
