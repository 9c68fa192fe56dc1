#!/usr/bin/env bash
# Runs tests under gVisor, whose kernel is a program: gvisor.sh. The binary is linked statically with glibc.
# The other tests fail or hang there: what they expect of the kernel, gVisor lacks.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"

platform=gvisor
build=$OUT/build/$platform
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
unpack "$release" amd64 runsc
runsc=$OUT/debian/$release-amd64/root/usr/bin/runsc
run='Pool|CloseFDs|TestCrash|TestLean|TestResize|TestMoveTo'
mkdir -p "$build"

is "$platform" "x86_64, $("$runsc" --version | head -1), statically linked with glibc, the tests ${run//|/, } alone"
if "$GO" test -c -o "$build/core.test" -ldflags '-linkmode external -extldflags -static' . 2>"$build/core.err"; then
	# The platform ptrace needs no virtualization. The first process is a shell, as orphans become its children.
	run_suite "$platform" core 900 . "$runsc" --platform=ptrace --network=none --rootless do \
		/bin/sh -c '"$@"; exit $?' sh "$build/core.test" -test.v -test.short "-test.run=$run" "-test.skip=$SLOW"
else
	cat "$build/core.err"
	record "$platform" core fail "does not compile"
fi
done_with "$platform"
