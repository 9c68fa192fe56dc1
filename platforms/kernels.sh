#!/usr/bin/env bash
# Runs the tests on a kernel of Debian's, in qemu: kernels.sh RELEASE [SUITES [ARGS]]. The test binaries are linked
# statically.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian.sh"
. "$(dirname "$0")/guest.sh"

release=$1
only=${2:-}
args=${3:-}
platform=kernel-$release
description="x86-64, Debian $release's cloud kernel in qemu, statically linked with glibc"

need gcc gcc libc6-dev
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
image=$(kernel "$release" amd64 linux-image-cloud-amd64)

export CC=${CC:-gcc}
guest_begin
guest_busybox "$(command -v busybox)"
build_suites -ldflags '-linkmode external -extldflags -static'
# max: what qemu can imitate, as AVX, by which the Go runtime copies.
guest_run qemu-system-x86_64 -M q35 -cpu max -accel "$(accelerator)" -m 3G -smp 2 \
	-kernel "$image" -append "console=ttyS0 quiet panic=-1"
finish
