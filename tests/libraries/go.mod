module forkshm.example/shm/tests/libraries

go 1.24.0

require (
	forkshm.example/shm v0.0.0
	github.com/mattn/go-sqlite3 v1.14.32
	github.com/rs/zerolog v1.34.0
	github.com/stretchr/testify v1.12.1
	go.etcd.io/bbolt v1.4.3
	go.uber.org/goleak v1.3.0
	go.uber.org/zap v1.27.0
)

require (
	github.com/mattn/go-colorable v0.1.13 // indirect
	github.com/mattn/go-isatty v0.0.19 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.41.0 // indirect
)

replace forkshm.example/shm => ../..
