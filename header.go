package shm

import (
	"embed"

	"forkshm.example/shm/internal/hook"
)

//go:embed csrc/shm_child.h csrc/shm_shared.h
var headers embed.FS

func init() { hook.Headers = headers }
