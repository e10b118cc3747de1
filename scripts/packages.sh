# packages.sh - sourced by quickstart and test: installs what is missing, and nothing else.

# need PACKAGE...: makes sure that they are installed. Asks apt only if one of them is not.
need() {
	local missing=() package
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q '^install ok installed$' ||
			missing+=("$package")
	done
	(( ${#missing[@]} )) || return 0

	echo "== Installing ${missing[*]}"
	as_root apt-get -q -o Acquire::Retries=5 update
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -q -y -o Acquire::Retries=5 --no-install-recommends install "${missing[@]}"
}

# Runs a command as root: directly, or by sudo.
as_root() {
	if (( $(id -u) == 0 )); then
		"$@"
	elif command -v sudo > /dev/null; then
		sudo "$@"
	else
		echo "This needs root for: $*" >&2
		echo "Run it as root, or install sudo." >&2
		return 1
	fi
}

# Makes /dev/fuse usable by us, as far as the machine lets us.
need_fuse() {
	[[ -c /dev/fuse ]] || as_root modprobe fuse 2> /dev/null || true
	[[ -c /dev/fuse ]] || as_root mknod -m 666 /dev/fuse c 10 229 2> /dev/null || true
	if [[ ! -c /dev/fuse ]]; then
		echo "There is no /dev/fuse: this kernel or container does not allow FUSE." >&2
		return 1
	fi
}

is_mounted() {
	grep -q -F " $(realpath -m "$1" | sed 's/ /\\040/g') fuse" /proc/self/mounts
}
