# A target a command. go build and go test work without make.

SHELL = /bin/bash
.SHELLFLAGS = -e -o pipefail -c

GO ?= go
COUNT ?= 1
TIMEOUT ?= 60m
SOAKTIME ?= 2m
FUZZTIME ?= 1m
SCRIPTS ?= 200
BENCH ?= .
BENCHCOUNT ?= 6
ASAN ?= Buffer|Fault|ReadAt|WriteAt|WriteTo|Swap|Detach|Split

IN_BUILDS = for tags in "" devzero; do
PACKAGES = ./...
C_FILES = csrc/shm.c csrc/child.c csrc/pool.c csrc/anon_mmap.c internal/ctest/children.c internal/ctest/object.c internal/ctest/loops.c internal/ctest/testdata/twin.c internal/ctest/testdata/forkwait.c internal/ctest/testdata/interpose.c examples/parser/parser.c
C_WARNINGS = -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
CROSS = linux/arm64 linux/386 darwin/arm64 windows/amd64 freebsd/amd64
BENCHSTAT = $(GO) -C bench tool benchstat

.PHONY: all run test race asan msan checkptr soak parity conformance bench bench-once compare fuzz lint cross clean

all: lint test race

run:
	$(GO) run ./cmd/anon_mmap

# Both builds, and what is left without cgo.
test:
	@$(IN_BUILDS) (set -x; $(GO) test -count=$(COUNT) -timeout $(TIMEOUT) -tags "$$tags" $(PACKAGES)); done
	CGO_ENABLED=0 $(GO) test -count=$(COUNT) -timeout $(TIMEOUT) .

# What builds, traces or compares other programs has nothing for the race detector, and takes long.
RACE_SKIP = EditsOfC|Vendoring|ReadmeProgram|ReportedByName|ManyForks|Listing|InC
race:
	@$(IN_BUILDS) (set -x; $(GO) test -race -count=$(COUNT) -timeout $(TIMEOUT) -skip '$(RACE_SKIP)' -tags "$$tags" $(PACKAGES)); done

# Under AddressSanitizer: what reads and writes memory for its callers.
asan:
	@$(IN_BUILDS) (set -x; $(GO) test -asan -count=$(COUNT) -timeout $(TIMEOUT) -run '$(ASAN)' -tags "$$tags" .); done

# The same under MemorySanitizer, which clang alone has, and under the compiler's checks of unsafe pointers.
msan:
	CC=clang $(GO) test -msan -count=$(COUNT) -timeout $(TIMEOUT) -run '$(ASAN)' .

checkptr:
	$(GO) test -gcflags=all=-d=checkptr -count=$(COUNT) -timeout $(TIMEOUT) .

# Ours against C and Go's own, in one run.
bench:
	mkdir -p out
	$(GO) test -run '^$$' -bench '$(BENCH)' -count=$(BENCHCOUNT) . | tee out/bench.txt
	$(BENCHSTAT) -col /impl ../out/bench.txt

bench-once:
	$(GO) test -short -run '^$$' -bench . -benchtime 1x .

# Technique against technique, in one table.
compare:
	mkdir -p out
	@rm -f out/compare.txt
	@$(IN_BUILDS) (set -x; $(GO) test -run '^$$' -bench '^Benchmark(Map|ForkWait|Grow|Move)$$/impl=go' -count=$(BENCHCOUNT) -tags "$$tags" . | tee -a out/compare.txt); done
	$(BENCHSTAT) -col /technique ../out/compare.txt

# All that children can go through, at random and at once.
soak:
	$(GO) run ./internal/soak -time $(SOAKTIME)

fuzz:
	$(GO) test -run '^$$' -fuzz FuzzAccess -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzSequence -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzBuffer -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .

lint: cross
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	@for tags in "" devzero; do (set -x; $(GO) vet -tags "$$tags" ./...); done
	@for c in $(C_FILES); do for def in -DUSE_MAP_ANON -UUSE_MAP_ANON; do (set -x; $(CC) -fsyntax-only $(C_WARNINGS) $$def $$c); done; done
	@if command -v cppcheck >/dev/null; then (set -x; cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr $(C_FILES)); fi

# The package builds where its shim does not.
cross:
	CGO_ENABLED=0 $(GO) vet ./...
	@for to in $(CROSS); do (set -x; CGO_ENABLED=0 GOOS=$${to%/*} GOARCH=$${to#*/} $(GO) vet .); done
	@if echo '#include <stdio.h>' | $(CC) -m32 -fsyntax-only -xc - 2>/dev/null; then (set -x; CGO_ENABLED=1 GOARCH=386 $(GO) vet .); fi

clean:
	rm -rf out
	$(GO) clean -testcache
