# A target a command. go build and go test work without make.

SHELL = /bin/bash
.SHELLFLAGS = -e -o pipefail -c

GO ?= go
COUNT ?= 1
TIMEOUT ?= 60m
FUZZTIME ?= 1m
BENCH ?= .
BENCHCOUNT ?= 6

IN_BUILDS = for tags in "" devzero; do
PACKAGES = ./...
C_FILES = csrc/shm.c csrc/anon_mmap.c internal/ctest/children.c internal/ctest/loops.c internal/ctest/testdata/twin.c internal/ctest/testdata/forkwait.c
C_WARNINGS = -std=gnu11 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
CROSS = linux/arm64 linux/386 darwin/arm64 windows/amd64 freebsd/amd64
BENCHSTAT = $(GO) -C bench tool benchstat

.PHONY: all run test race parity bench bench-once compare fuzz lint cross clean

all: lint test race

run:
	$(GO) run ./cmd/anon_mmap

# Both builds, and what is left without cgo.
test:
	@$(IN_BUILDS) (set -x; $(GO) test -count=$(COUNT) -timeout $(TIMEOUT) -tags "$$tags" $(PACKAGES)); done
	CGO_ENABLED=0 $(GO) test -count=$(COUNT) -timeout $(TIMEOUT) .

race:
	@$(IN_BUILDS) (set -x; $(GO) test -race -count=$(COUNT) -timeout $(TIMEOUT) -tags "$$tags" $(PACKAGES)); done

# What is held against C: each call, and the book's program.
parity:
	@$(IN_BUILDS) (set -x; $(GO) test -count=$(COUNT) -timeout $(TIMEOUT) -run 'InC|CDoes|CsSystem|WaitSees|Mremap' -tags "$$tags" . ./examples/malloc); done

# Ours against C and Go's own, in one run.
bench:
	mkdir -p out
	$(GO) test -run '^$$' -bench '$(BENCH)' -count=$(BENCHCOUNT) . | tee out/bench.txt
	$(BENCHSTAT) -col /impl ../out/bench.txt

bench-once:
	@$(IN_BUILDS) (set -x; $(GO) test -run '^$$' -bench . -benchtime 1x -tags "$$tags" .); done

# Technique against technique, in one table.
compare:
	mkdir -p out
	@rm -f out/compare.txt
	@$(IN_BUILDS) (set -x; $(GO) test -run '^$$' -bench '^Benchmark(Map|ForkWait|Grow|Move)$$/impl=go' -count=$(BENCHCOUNT) -tags "$$tags" . | tee -a out/compare.txt); done
	$(BENCHSTAT) -col /technique ../out/compare.txt

fuzz:
	$(GO) test -run '^$$' -fuzz FuzzAccess -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .
	$(GO) test -run '^$$' -fuzz FuzzSequence -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .

lint: cross
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt would change: $$unformatted"; exit 1; }
	@$(IN_BUILDS) (set -x; $(GO) vet -tags "$$tags" ./...); done
	@for c in $(C_FILES); do for def in -DUSE_MAP_ANON -UUSE_MAP_ANON; do (set -x; $(CC) -fsyntax-only $(C_WARNINGS) $$def $$c); done; done
	@if command -v cppcheck >/dev/null; then (set -x; cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr $(C_FILES)); fi

# The package builds where its shim does not.
cross:
	CGO_ENABLED=0 $(GO) vet ./...
	@for to in $(CROSS); do (set -x; CGO_ENABLED=0 GOOS=$${to%/*} GOARCH=$${to#*/} $(GO) vet .); done

clean:
	rm -rf out
	$(GO) clean -testcache
