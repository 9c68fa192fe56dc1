#!/usr/bin/env bash
# Runs the tests with another C library, or none to load: libc.sh musl | musl-static | glibc-static [SUITES]
. "$(dirname "$0")/common.sh"

platform=$1
only=${2:-}
static=(-ldflags '-linkmode external -extldflags -static')
SLOW='^$'     # nothing is imitated
programs=false # parity builds them itself
take=libc_suite

# libc_suite NAME PACKAGE: runs a suite.
libc_suite() { run_suite "$1" "$2" "$build/$1.test" $(flags "$1"); }

case $platform in
musl)
	need musl-gcc musl-tools
	export CC=musl-gcc
	is "$(uname -m), musl $(dpkg-query -W -f '${Version}' musl-dev 2>/dev/null || echo of this system)"
	build_suites
	;;
musl-static)
	need musl-gcc musl-tools
	export CC=musl-gcc
	is "$(uname -m), musl, linked statically"
	build_suites "${static[@]}"
	;;
glibc-static)
	is "$(uname -m), $(getconf GNU_LIBC_VERSION), linked statically"
	build_suites "${static[@]}"
	;;
*)
	echo "libc.sh: no platform is called $platform" >&2
	exit 2
	;;
esac
finish
