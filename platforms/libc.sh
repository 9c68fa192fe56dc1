#!/usr/bin/env bash
# Runs the tests with another C library, or none to load: libc.sh musl | static
. "$(dirname "$0")/common.sh"

platform=$1
only=${2:-}
static=(-ldflags '-linkmode external -extldflags -static')
build=$OUT/build/$platform
mkdir -p "$build"

# suite NAME PACKAGE FLAGS...: builds the tests of a package, and runs them.
suite() {
	local name=$1 package=$2 short=-test.short
	shift 2
	[ "$name" != parity ] || short=-test.short=false # the whole of parity builds other programs
	[ -z "$only" ] || [ "$only" = "$name" ] || return 0
	if ! "$GO" test -c -o "$build/$name.test" "$@" "$package" 2>"$build/$name.err"; then
		cat "$build/$name.err"
		record "$platform" "$name" fail "does not compile"
		return
	fi
	run_suite "$platform" "$name" 900 "$package" "$build/$name.test" -test.v "$short" -test.timeout 14m
}

# suites FLAGS...: all of them.
suites() {
	suite core . "$@"
	suite devzero . -tags devzero "$@"
	suite parity ./tests/parity "$@"
	"$GO" build -o "$build/livego" ./cmd/livego
	GO=$build/livego suite live ./live -tags livego "$@"
}

case $platform in
musl)
	need musl-gcc musl-tools
	export CC=musl-gcc
	is musl "$(uname -m), musl $(dpkg-query -W -f '${Version}' musl-dev 2>/dev/null || echo of this system)"
	suites
	;;
musl-static)
	need musl-gcc musl-tools
	export CC=musl-gcc
	is musl-static "$(uname -m), musl, linked statically"
	suites "${static[@]}"
	;;
glibc-static)
	is glibc-static "$(uname -m), $(getconf GNU_LIBC_VERSION), linked statically"
	suites "${static[@]}"
	;;
*)
	echo "libc.sh: no platform is called $platform" >&2
	exit 2
	;;
esac
done_with "$platform"
