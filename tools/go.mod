module forkshm.example/shm/tools

go 1.24.0

tool (
	golang.org/x/perf/cmd/benchstat
	golang.org/x/vuln/cmd/govulncheck
	honnef.co/go/tools/cmd/staticcheck
)

require (
	golang.org/x/sys v0.41.0
	golang.org/x/tools v0.38.0
)

require github.com/edsrzf/mmap-go v1.2.0

require (
	github.com/BurntSushi/toml v1.4.1-0.20240526193622-a339e1f7089c // indirect
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678 // indirect
	golang.org/x/telemetry v0.0.0-20251008203120-078029d740a8 // indirect
	golang.org/x/vuln v1.1.4 // indirect
)

require (
	forkshm.example/shm v0.0.0
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	golang.org/x/exp v0.0.0-20251023183803-a4bb9ffd2546
	golang.org/x/mod v0.29.0 // indirect
	golang.org/x/perf v0.0.0-20251112180420-cfbd823f7301
	golang.org/x/sync v0.17.0 // indirect
	honnef.co/go/tools v0.6.1 // indirect
)

replace forkshm.example/shm => ../
