# Packages of any Debian release and processor, from the mirror that apt is set up with. They are
# unpacked under out/platforms; this system's own packages and lists stay as they are.

command -v apt-get >/dev/null || { echo "apt-get is missing: this platform needs a machine with Debian" >&2 && exit 1; }

# mirror prints where this system has Debian from. apt knows that once it has lists.
mirror() {
	local found
	found=$(debian_targets)
	[ -n "$found" ] || { apt-get update -qq >&2 && found=$(debian_targets); }
	echo "${found:-http://deb.debian.org/debian/}"
}

debian_targets() {
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" { print $2; exit }'
}

# in_release RELEASE ARCH APT-COMMAND...: runs a command of apt for a release and a processor.
in_release() {
	local release=$1 arch=$2 program=$3 dir=$OUT/debian/$1-$2 mirror
	shift 3
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/status"
	if [ ! -s "$dir/sources.list" ]; then
		mirror=$(mirror)
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$dir/sources.list"
	fi
	"$program" -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Acquire::Languages=none \
		-o Dir::State::Lists="$dir/lists" -o Dir::State::Status="$dir/status" -o Dir::Cache="$dir/cache" \
		-o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o APT::Sandbox::User=root "$@"
}

# unpack RELEASE ARCH PACKAGE: downloads a package, and unpacks it to out/platforms/debian/RELEASE-ARCH/root.
unpack() {
	local dir=$OUT/debian/$1-$2
	[ -e "$dir/unpacked-$3" ] && return
	mkdir -p "$dir/root"
	[ -n "$(ls "$dir"/lists/*Packages* 2>/dev/null)" ] || in_release "$1" "$2" apt-get update -qq
	(cd "$dir" && rm -f "$3"_*.deb && in_release "$1" "$2" apt-get download -qq "$3" && dpkg-deb -x "$3"_*.deb root && rm "$3"_*.deb)
	touch "$dir/unpacked-$3"
}

# kernel RELEASE ARCH PACKAGE: has the kernel that a package stands for, and prints its file. The package may
# depend on the one that has the kernel. Its modules are not kept: nothing is loaded.
kernel() {
	local dir=$OUT/debian/$1-$2 package=$3 found
	local file=$dir/vmlinuz-$3
	while [ ! -s "$file" ]; do
		unpack "$1" "$2" "$package"
		found=$(find "$dir/root" -name 'vmlinu[xz]*' -type f | head -1)
		if [ -n "$found" ]; then
			mv "$found" "$file"
			rm -rf "$dir/root/boot" "$dir"/root/{,usr/}lib/modules
			break
		fi
		package=$(in_release "$1" "$2" apt-cache depends "$package" | sed -n -E 's/^ *Depends: (linux-(image|binary)-[^ ]*)$/\1/p' | head -1)
	done
	echo "$file"
}

# cross_cc TRIPLET ARCH: has a C compiler of this release for another processor, and prints its path. Installed it
# would displace gcc-multilib, or be displaced by it; unpacked it stands beside both.
cross_cc() {
	local release version dir package
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	version=$(gcc -dumpversion)
	dir=$OUT/debian/$release-amd64
	for package in "gcc-$version-$1" "cpp-$version-$1" "binutils-$1" "libgcc-$version-dev-$2-cross" \
		"libgcc-s1-$2-cross" "libc6-$2-cross" "libc6-dev-$2-cross" "linux-libc-dev-$2-cross"; do
		unpack "$release" amd64 "$package"
	done
	echo "$dir/root/usr/bin/$1-gcc-$version"
}
