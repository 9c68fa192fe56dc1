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

# in_user [TRIPLET ARCH QEMU]: runs the core's tests under this machine's kernel, by qemu's imitation of the processor if
# one is given. That passes not all on that a kernel has, as namespaces and what a signal says.
in_user() {
	local build=$OUT/build/$platform emulator=()
	if [ $# -gt 0 ]; then
		need "qemu-$3-static" qemu-user-static
		CC=$(cross_cc "$1" "$2")
		emulator=("qemu-$3-static")
	fi
	export CC
	mkdir -p "$build"
	is "$platform" "$description"
	if ! "$GO" test -c -o "$build/core.test" "${static[@]}" . 2>"$build/core.err"; then
		cat "$build/core.err"
		record "$platform" core fail "does not compile"
		return
	fi
	run_suite "$platform" core 900 . "${emulator[@]}" "$build/core.test" -test.v -test.short -test.timeout 14m "-test.skip=$SLOW" $args
}

# in_guest RELEASE KERNEL: runs all suites on a kernel of Debian's for arm64.
in_guest() {
	need qemu-system-aarch64 qemu-system-arm
	need cpio cpio
	CC=$(cross_cc aarch64-linux-gnu arm64)
	export CC GOARCH=arm64
	guest_begin "$platform"
	unpack bookworm arm64 busybox-static
	guest_busybox "$OUT/debian/bookworm-arm64/root/bin/busybox"
	build_suites "${static[@]}"
	guest_run "$platform" "${GUEST_TIME:-2400}" qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on -accel tcg,thread=multi \
		-m 3G -smp 2 -kernel "$(kernel "$1" arm64 "$2")" -append "console=ttyAMA0 quiet panic=-1"
}

# cc_386: this machine's compiler, if it has what 386 needs, or else one for 386 alone.
cc_386() {
	if echo 'int main(void) { return 0; }' | gcc -m32 -xc - -o /dev/null 2>/dev/null; then
		CC="gcc -m32"
	else
		CC=$(cross_cc i686-linux-gnu i386)
	fi
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
arm64-64k)
	is "$platform" "arm64, 64 KiB pages"
	for suite in core devzero parity live; do
		record "$platform" "$suite" unsupported "Debian trixie has no kernel with 64 KiB pages"
	done
	;;
riscv64)
	description="riscv64, by qemu's imitation of the processor under this machine's kernel, statically linked with glibc"
	export GOARCH=riscv64
	in_user riscv64-linux-gnu riscv64 riscv64
	;;
arm)
	description="32-bit ARM, by qemu's imitation of the processor under this machine's kernel, statically linked with glibc"
	export GOARCH=arm
	in_user arm-linux-gnueabihf armhf arm
	;;
386)
	description="386, under this machine's kernel of 64 bits, statically linked with glibc"
	cc_386
	export GOARCH=386
	in_user
	;;
*)
	echo "cross.sh: no platform is called $platform" >&2
	exit 2
	;;
esac
done_with "$platform"
