module forkshm.example/shm/tools

go 1.24.0

tool golang.org/x/perf/cmd/benchstat

require (
	golang.org/x/sys v0.41.0
	golang.org/x/tools v0.38.0
)

require github.com/edsrzf/mmap-go v1.2.0

require (
	forkshm.example/shm v0.0.0
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	golang.org/x/mod v0.29.0 // indirect
	golang.org/x/perf v0.0.0-20251112180420-cfbd823f7301 // indirect
	golang.org/x/sync v0.17.0 // indirect
)

replace forkshm.example/shm => ../
