# A target a command. go build and go test work without make. make help lists the targets.

SHELL = /bin/bash
.SHELLFLAGS = -e -o pipefail -c

GO ?= go
COUNT ?= 1
TIMEOUT ?= 15m
SOAKTIME ?= 2m
SOAKSHARED ?= 10m
FUZZTIME ?= 1m
SCRIPTS ?= 200
BENCH ?= .
BENCHCOUNT ?= 6
ASAN ?= Buffer|Fault|ReadAt|WriteAt|WriteTo|Swap|Detach|Split

# The builds that are tested, by their tags: the usual one, and the one whose default is /dev/zero.
BUILDS ?= "" devzero
IN_BUILDS = for tags in $(BUILDS); do
# What builds, traces and compares other programs takes long, and is for make check. The rest is for make test.
SLOW = ./parity/... ./tests/...
LIST_PACKAGES = packages=$$($(GO) list ./... | grep -v -e /cmd/ -e '/parity$$' -e /tests/);
TEST = $(GO) test -count=$(COUNT) -timeout $(TIMEOUT)
# That of examples/thumbnail which needs libraries is compiled by tests/build.
C_FILES = $(filter-out examples/thumbnail/decoder.c,$(wildcard csrc/*.c shared/csrc/*.c internal/ctest/*.c internal/ctest/*/*.c examples/*/*.c))
# The C that obeys .clang-format. Releases of clang-format differ in what they do: the check is by one.
C_FORMATTED = $(wildcard csrc/*.[ch] shared/csrc/*.[ch] examples/*/*.[ch])
CLANG_FORMAT ?= clang-format
CLANG_FORMAT_RELEASE = 14
C_WARNINGS = -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
CROSS = linux/arm64 linux/386 darwin/arm64 windows/amd64 freebsd/amd64
BENCHSTAT = $(GO) -C tools tool benchstat
# staticcheck and knots read what the compiler exports, and know Go up to 1.26. For a later Go they run by
# that version: the versions of them that know Go 1.27 need Go 1.26 to be built, and lint is for Go 1.24, too.
KNOWN_GO ?= go1.26.8
BY_KNOWN_GO = $(if $(filter go1.27%,$(shell $(GO) env GOVERSION)),GOTOOLCHAIN=$(KNOWN_GO))
# The revision whose exported names are kept.
API ?= a477f76

.PHONY: help all check run test slow livego stress live live-check live-patch live-libraries live-proof live-modes live-std live-others live-cost live-bench live-demo race asan msan checkptr soak soak-shared parity conformance bench shared-bench walls-bench bench-once compare report fuzz lint format apidiff vuln cross clean

all: check

help: ## prints this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done

# The gate (.ci/run) has less than 20 minutes on a busy machine. It leaves out what takes long and tells
# least: race and slow in the second build, as the tests of each build go through all techniques, those of
# livego that compile the whole standard library anew, and four of five instructions at which a child of
# package shared can be killed. It adds make stress for some minutes.
check: lint apidiff run test slow livego bench-once race ## lint and all tests: some tens of minutes

run: ## runs the book's program: a child changes a shared int
	$(GO) run ./cmd/anon_mmap

test: ## the tests of both builds, of the build without cgo, and of live forks: 2 minutes
	@$(LIST_PACKAGES) $(IN_BUILDS) (set -x; $(TEST) -tags "$$tags" $$packages); done
	CGO_ENABLED=0 $(TEST) .
	@$(MAKE) --no-print-directory live

# Children are killed at each instruction of what they do in shared memory that is a multiple of STRIDE.
STRIDE ?= 1
slow: ## the tests that build other programs, and that compare with C and strace
	@$(IN_BUILDS) (set -x; $(TEST) -tags "$$tags" $(SLOW)); done
	$(TEST) -run 'Instruction' -skip Others ./shared -args -stride $(STRIDE)
	$(TEST) -run 'Instruction.*Others' ./shared -args -stride 5
	$(TEST) -run 'GarbageInAnArena' ./shared -args -stride 1
	SHM_HOSTILE=all $(TEST) -v -run 'HostileSuite|NoWayOut' . | grep -v '^ *--- PASS\|^=== '
	$(GO) -C tools test -count=$(COUNT) ./...

# Each set of flags compiles the standard library anew.
LIVEGO_SKIP ?= ^$$
livego: ## the tests of livego, with flags of go build
	$(TEST) -skip '$(LIVEGO_SKIP)' ./cmd/...

# Some tests at a time, in random order, on a machine that it keeps busy, with GOMAXPROCS=1, 2 and 8, nice,
# and half a core. STRESSSEED=n chooses the same tests each time.
STRESSTIME ?= 10m
STRESSSEED ?=
stress: ## the tests on a busy machine, in many settings, for STRESSTIME
	$(GO) run ./internal/stress -time $(STRESSTIME) $(if $(STRESSSEED),-seed $(STRESSSEED))

# Live forks need livego's runtime. live is for every change, live-proof forks FORKS times on each Go version.
FORKS ?= 10000
LIVE_FORKS ?= 50
LIVE_VERSIONS = go1.24.9 go1.25.3 local go1.27.4
live: ## the tests of live forks
	$(GO) build -o out/livego ./cmd/livego
	LIVE_ASSERT=1 out/livego test -tags livego -count=$(COUNT) -timeout $(TIMEOUT) ./live -args -forks $(LIVE_FORKS)
	out/livego test -tags livego -run LiveFork -count=$(COUNT) -timeout $(TIMEOUT) ./shared
	out/livego test -count=$(COUNT) -timeout $(TIMEOUT) ./examples/kv

# A server saves itself while it is written to: what its clients see meanwhile.
KEYS ?= 10000000
live-demo: ## runs a server that saves itself while clients write to it
	$(GO) build -o out/livego ./cmd/livego
	out/livego run ./examples/kv -demo -keys $(KEYS)

live-check: ## checks that the Go versions have what the patch of the runtime was checked against
	@for v in $(LIVE_VERSIONS); do (set -x; GOTOOLCHAIN=$$v $(GO) run ./internal/livepatch/check "$$(GOTOOLCHAIN=$$v $(GO) env GOROOT)"); done

live-patch: ## prints the patch of the standard library, as one diff against the Go in use
	@$(GO) run ./internal/livepatch/diff

live-libraries: ## the tests of live forks with SQLite, bbolt, zap and others
	$(GO) build -o out/livego ./cmd/livego
	out/livego test -C tests/libraries -tags livego -count=$(COUNT) -timeout $(TIMEOUT) .

live-proof: live-check ## the tests of live forks, with FORKS forks on each Go version
	$(GO) build -o out/livego ./cmd/livego
	@for v in $(LIVE_VERSIONS); do (set -x; LIVE_ASSERT=1 GOTOOLCHAIN=$$v out/livego test -tags livego -count=1 -v -timeout 24h ./live -args -forks $(FORKS)); done

race: ## the tests of both builds under the race detector
	@$(LIST_PACKAGES) $(IN_BUILDS) (set -x; $(TEST) -race -short -tags "$$tags" $$packages); done

# Under AddressSanitizer: what reads and writes memory for its callers.
asan: ## the tests of memory access under AddressSanitizer
	@$(IN_BUILDS) (set -x; $(GO) test -asan -count=$(COUNT) -timeout $(TIMEOUT) -run '$(ASAN)' -tags "$$tags" .); done

# The same under MemorySanitizer, which clang alone has, and under the compiler's checks of unsafe pointers.
msan: ## the same under MemorySanitizer, with clang
	CC=clang $(GO) test -msan -count=$(COUNT) -timeout $(TIMEOUT) -run '$(ASAN)' .

checkptr: ## the tests under the compiler's checks of unsafe pointers
	$(GO) test -gcflags=all=-d=checkptr -count=$(COUNT) -timeout $(TIMEOUT) .

# Live forks under what changes the runtime's ways.
MODE_FORKS ?= 100
live-modes: ## the tests of live forks with GODEBUG, GOMAXPROCS, -race, -cover, a profile
	mkdir -p out
	$(GO) build -o out/livego ./cmd/livego
	out/livego test -tags livego -c -o out/live.test ./live
	out/livego test -tags livego -race -c -o out/live.race.test ./live
	out/livego test -tags livego -cover -coverpkg ./... -c -o out/live.cover.test ./live
	@cd live && for mode in GOMAXPROCS=1 GOMAXPROCS=2 GOMAXPROCS=16 GOGC=1 GODEBUG=gccheckmark=1 GODEBUG=gcstoptheworld=1 \
		GODEBUG=gcstoptheworld=2 GODEBUG=asyncpreemptoff=1 GODEBUG=clobberfree=1 GODEBUG=gcshrinkstackoff=1; do \
		(set -x; env $$mode ../out/live.test -test.v -test.run FrozenMeansFrozen -test.timeout 1h -forks $(MODE_FORKS)); done
	@cd live && (set -x; ../out/live.race.test -test.v -test.timeout 1h -forks $(MODE_FORKS))
	@mkdir -p out/cover # for the children's
	@cd live && (set -x; GOCOVERDIR=../out/cover ../out/live.cover.test -test.v -test.timeout 1h -test.coverprofile ../out/live.cover -forks $(MODE_FORKS))
	@cd live && (set -x; ../out/live.test -test.v -test.run FrozenMeansFrozen -test.timeout 1h -test.cpuprofile ../out/live.prof -forks $(MODE_FORKS))

# The standard library's own tests inside a child of a busy process: with the same failures as without?
STD ?= runtime sync time context net net/http os os/exec os/signal encoding/json compress/gzip compress/flate compress/bzip2 compress/lzw compress/zlib database/sql
live-std: ## the standard library's tests inside a child of a live fork
	$(GO) build -o out/livego ./cmd/livego
	LIVEGO=$(CURDIR)/out/livego live/std-in-child.sh -short $(STD)

# Other people's modules, by words of their paths. OTHERS= is all of live/others.txt, for some hours.
OTHERS ?= zap go.etcd.io/raft prometheus x/net bbolt
live-others: ## tests of third-party modules inside a child of a live fork
	$(GO) build -o out/livego ./cmd/livego
	LIVEGO=$(CURDIR)/out/livego live/others.sh $(OTHERS)

COST ?= sync time sort encoding/json regexp
live-cost: ## what the patch of the runtime costs programs that never fork
	mkdir -p out
	$(GO) build -o out/livego ./cmd/livego
	$(GO) -C tools build -o ../out/ golang.org/x/perf/cmd/benchstat
	LIVEGO=$(CURDIR)/out/livego BENCHSTAT=$(CURDIR)/out/benchstat live/cost.sh $(COST) | tee out/live-cost.txt

# Live forks against C's, Python's, and starting the program anew.
live-bench: ## measures what a live fork costs
	mkdir -p out
	$(GO) build -o out/livego ./cmd/livego
	out/livego test -tags livego -run '^$$' -bench . -benchtime 20x -count $(BENCHCOUNT) ./live | tee out/live-bench.txt
	$(BENCHSTAT) -col /impl ../out/live-bench.txt

# What is held against C: each call, and the book's program.
parity: ## compares each call, and the book's program, with C
	@$(IN_BUILDS) (set -x; $(GO) test -count=$(COUNT) -timeout $(TIMEOUT) -tags "$$tags" ./tests/parity ./examples/malloc); done

# Random scripts, in C and in Go: SCRIPTS of them for each sharing and technique. SHM_SEED=n repeats a run.
conformance: ## runs SCRIPTS random scripts in C and in Go, and compares
	SHM_SCRIPTS=$(SCRIPTS) $(GO) test -count=$(COUNT) -timeout $(TIMEOUT) -run 'DoAsInC' -v ./tests/parity | grep -v '^ *--- PASS\|^=== '

# Ours against C and Go's own, in one run.
bench: ## measures this package against C and against Go's own means
	mkdir -p out
	$(GO) test -run '^$$' -bench '$(BENCH)' -count=$(BENCHCOUNT) . | tee out/bench.txt
	$(BENCHSTAT) -col /impl ../out/bench.txt

shared-bench: ## measures the structures in shared memory against C
	mkdir -p out
	$(GO) test -run '^$$' -bench . -count=$(BENCHCOUNT) ./shared | tee out/shared.txt

# In rounds, since the machine's state changes meanwhile.
walls-bench: ## measures fork servers, sandboxes and Do, each against what it replaces
	mkdir -p out
	$(GO) test -c -o out/walls.test .
	@rm -f out/walls.txt
	@for i in $$(seq $(BENCHCOUNT)); do out/walls.test -test.run '^$$' -test.bench 'ForkServer|Sandbox|Do' | tee -a out/walls.txt; done
	$(BENCHSTAT) -col /impl ../out/walls.txt

bench-once: ## runs each benchmark once
	$(GO) test -short -run '^$$' -bench . -benchtime 1x .

# The techniques compared on one page, with both builds in one run: what their memory does and
# costs, beside C and others. QUICK=1 takes less than 40 seconds, FULL=1 measures more often.
compare: ## measures the techniques against each other, on one page
	$(GO) -C tools run ./compare $(if $(QUICK),-quick) $(if $(FULL),-full) -out $(CURDIR)/out/compare

# REPORT_FLAGS=-check writes nothing, and fails if a file is not what its measurements say.
report: ## writes docs/MEASUREMENTS.md and the README's figures, from docs/measurements
	$(GO) -C tools run ./report $(REPORT_FLAGS)

# All that children can go through, at random and at once.
soak: ## makes children that do all things at random and at once, for SOAKTIME
	$(GO) run ./internal/soak -time $(SOAKTIME)

# Children are killed at random while they use what stands in shared memory. Counts are printed.
soak-shared: ## kills children at random beside each structure of package shared, for SOAKSHARED
	$(GO) test -count=1 -timeout 24h -run KilledAtRandom -v ./shared -args -soak $(SOAKSHARED)

fuzz: ## runs each fuzz test for FUZZTIME
	$(GO) test -run '^$$' -fuzz FuzzAccess -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzSequence -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzBuffer -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzCrashRecord -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzSetUpReport -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzReply -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzServerAnswer -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzRead -fuzztime $(FUZZTIME) -fuzzminimizetime 100x ./internal/elfsym
	$(GO) test -run '^$$' -fuzz FuzzVMA -fuzztime $(FUZZTIME) -fuzzminimizetime 100x ./internal/procmaps
	$(GO) test -run '^$$' -fuzz FuzzFiles -fuzztime $(FUZZTIME) -fuzzminimizetime 100x ./internal/procmaps

lint: cross ## gofmt, go vet, staticcheck, ladders of files, long functions, C warnings, builds for other systems
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	@for tags in "" devzero livego; do (set -x; $(GO) vet -tags "$$tags" ./...); done
	@for c in $(C_FILES); do for def in -DUSE_MAP_ANON -UUSE_MAP_ANON; do (set -x; $(CC) -fsyntax-only $(C_WARNINGS) $$def $$c); done; done
	@if $(CLANG_FORMAT) --version 2>/dev/null | grep -q 'version $(CLANG_FORMAT_RELEASE)\.'; then (set -x; $(CLANG_FORMAT) --dry-run -Werror $(C_FORMATTED)); fi
	@if command -v cppcheck >/dev/null; then (set -x; cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr $(C_FILES)); fi
	$(BY_KNOWN_GO) $(GO) -C tools build -o ../out/ honnef.co/go/tools/cmd/staticcheck
	@for tags in "" devzero; do (set -x; $(BY_KNOWN_GO) out/staticcheck -tags "$$tags" ./...); done
	$(BY_KNOWN_GO) out/staticcheck -tags livego ./live
	cd tools && $(BY_KNOWN_GO) ../out/staticcheck ./...
	$(GO) -C tools run ./lengths -most 45 ..
	@dirs="$$($(GO) list -f '{{.Dir}}' ./...) $$($(GO) -C tools list -f '{{.Dir}}' ./...)"; (set -x; $(BY_KNOWN_GO) $(GO) -C tools run ./knots $$dirs)
	$(BY_KNOWN_GO) $(GO) -C tools build -o ../out/ ./knots
	CGO_ENABLED=0 out/knots .
	$(GO) -C tools vet ./...

format: ## formats the Go, and the C by clang-format
	gofmt -w .
	$(CLANG_FORMAT) -i $(C_FORMATTED)

apidiff: ## fails if an exported name of revision API is gone
	@if git cat-file -e '$(API)^{commit}' 2>/dev/null; then (set -x; $(BY_KNOWN_GO) $(GO) -C tools run ./api $(API)); \
		else echo "exported names are not compared: $(API) is not in this clone (git fetch --unshallow gets it)"; fi

# Its database is at vuln.go.dev.
vuln: ## looks for known vulnerabilities in what this module uses: needs the network
	$(GO) -C tools build -o ../out/ golang.org/x/vuln/cmd/govulncheck
	out/govulncheck ./...

# The package builds where its shim does not.
cross: ## builds for other systems
	CGO_ENABLED=0 $(GO) vet ./...
	@for to in $(CROSS); do (set -x; CGO_ENABLED=0 GOOS=$${to%/*} GOARCH=$${to#*/} $(GO) vet .); done
	@if echo '#include <stdio.h>' | $(CC) -m32 -fsyntax-only -xc - 2>/dev/null; then (set -x; CGO_ENABLED=1 GOARCH=386 $(GO) vet . ./shared); fi

include platforms/platforms.mk

clean: ## removes what was built
	rm -rf out
	$(GO) clean -testcache
