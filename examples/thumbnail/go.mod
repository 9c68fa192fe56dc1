module forkshm.example/shm/examples/thumbnail

go 1.24.0

require forkshm.example/shm v0.0.0

require golang.org/x/sys v0.41.0 // indirect

replace forkshm.example/shm => ../..
