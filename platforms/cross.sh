#!/usr/bin/env bash
# Runs the tests for another processor: cross.sh PLATFORM [SUITE [ARGS]].
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"
. "$(dirname "$0")/guest.sh"

platform=$1
only=${2:-}
args=${3:-}
static=(-ldflags '-linkmode external -extldflags -static')
export CGO_ENABLED=1

# in_user TRIPLET QEMU: runs the core's tests by qemu's imitation of the processor, under this machine's kernel. It
# lacks what qemu does not pass on: that shows by fewer tests.
in_user() {
	local build=$OUT/build/$platform
	need "$1-gcc" "gcc-$1" "libc6-dev-$2-cross"
	need "qemu-$3-static" qemu-user-static
	export CC=$1-gcc
	mkdir -p "$build"
	is "$platform" "$description"
	if ! "$GO" test -c -o "$build/core.test" "${static[@]}" . 2>"$build/core.err"; then
		cat "$build/core.err"
		record "$platform" core fail "does not compile"
		return
	fi
	run_suite "$platform" core 900 . "qemu-$3-static" "$build/core.test" -test.v -test.short -test.timeout 14m -test.run "$run" $args
}

# in_guest RELEASE KERNEL: runs all suites on a kernel of Debian's for arm64.
in_guest() {
	need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	need qemu-system-aarch64 qemu-system-arm
	need cpio cpio
	export CC=aarch64-linux-gnu-gcc GOARCH=arm64
	guest_begin "$platform"
	unpack bookworm arm64 busybox-static
	guest_busybox "$OUT/debian/bookworm-arm64/root/bin/busybox"
	build_suites "${static[@]}"
	guest_run "$platform" "${GUEST_TIME:-2400}" qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on -accel tcg,thread=multi \
		-m 3G -smp 2 -kernel "$(kernel "$1" arm64 "$2")" -append "console=ttyAMA0 quiet panic=-1"
}

case $platform in
arm64-4k)
	description="arm64, 4 KiB pages, Debian trixie's cloud kernel in qemu, statically linked with glibc"
	in_guest trixie linux-image-cloud-arm64
	;;
arm64-16k)
	description="arm64, 16 KiB pages, Debian trixie's kernel in qemu, statically linked with glibc"
	in_guest trixie linux-image-arm64-16k
	;;
*)
	echo "cross.sh: no platform is called $platform" >&2
	exit 2
	;;
esac
done_with "$platform"
