//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"log"
	"runtime"

	"forkshm.example/shm"
)

func check(err, want error) {
	if !errors.Is(err, want) {
		fail(fmt.Sprintf("%v, must be %v", err, want))
	}
}

func as(err error, target **shm.ExitError) {
	if !errors.As(err, target) {
		fail(fmt.Sprintf("%v, must be how a child ended", err))
	}
}

func expect[T comparable](what string, got, want T) {
	if got != want {
		fail(fmt.Sprintf("%s: %v, must be %v", what, got, want))
	}
}

func fail(why string) {
	_, file, line, _ := runtime.Caller(2)
	log.Fatalf("%s:%d: %s", file, line, why)
}
