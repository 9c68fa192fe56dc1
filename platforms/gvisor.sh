#!/usr/bin/env bash
# Runs tests under gVisor, whose kernel is a program: gvisor.sh [SUITES]. The binary is linked statically with glibc.
# The other tests fail or hang there: what they expect of the kernel, gVisor lacks.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"

platform=gvisor
only=${1:-}
no_parity="it has no MREMAP_DONTUNMAP, which the scripts use"
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
unpack "$release" amd64 runsc
runsc=$OUT/debian/$release-amd64/root/usr/bin/runsc
CHOSEN[core]='-test.run=Pool|CloseFDs|TestCrash|TestLean|TestResize|TestMoveTo|SandboxLetsCompute|SandboxRefuses'
CHOSEN[devzero]=${CHOSEN[core]}
CHOSEN[live]='-test.run=FrozenMeansFrozen'
SLOW+="|PoolInASandbox|EachInstruction|AnArenaIsMended|Killed" # no child is told which call was denied; single steps come to no end

# gvisor_suite NAME PACKAGE: runs a suite. The platform ptrace needs no virtualization. The first process is a shell, as
# orphans become its children.
gvisor_suite() {
	run_suite "$1" "$2" "$runsc" --platform=ptrace --network=none --rootless do \
		/bin/sh -c '"$@"; exit $?' sh "$build/$1.test" $(flags "$1")
}

is "x86_64, $("$runsc" --version | head -1), statically linked with glibc"
take=gvisor_suite
build_suites -ldflags '-linkmode external -extldflags -static'
finish
