package shm

import (
	_ "embed"

	"forkshm.example/shm/internal/hook"
)

//go:embed csrc/shm_child.h
var childHeader []byte

func init() { hook.ChildHeader = childHeader }
