#!/usr/bin/env bash
# make, gcc, ar, ld: this project is built inside the mount, twice, and its programs run from there.
source "$(dirname "$0")/kit.sh"

# A make above us would share its jobs.
unset MAKEFLAGS MAKELEVEL MFLAGS
targets=(all)
if [[ ! $QUICK ]]; then targets+=(tests); fi

# What make still finds to do.
again() {
	make -j4 CFLAGS=-O1 "${targets[@]}" | grep -v "Nothing to be done" || true
}

sources "$M/cubby"
cd "$M/cubby"
make -j4 CFLAGS=-O1 "${targets[@]}" > "$D/log" 2>&1 || { tail "$D/log"; fail "the build"; }
cd build/default
./cubby --version
if [[ ! $QUICK ]]; then
	./tests/unit/test_tree > /dev/null 2>&1 || fail "a test that was built here"
fi
cd ../..
[[ -z $(again) ]] || fail "what was built is not newer than its sources"
touch store/sum.c
again > "$D/again"
grep -q 'CC *store/sum.c' "$D/again" || fail "a touched source is not newer"
[[ -z $(again) ]] || fail "what was built again is not newer"
keeps
cd "$M/cubby"
[[ -z $(again) ]] || fail "times moved when mounting again"
make clean
[[ ! -e build ]] || fail "make clean"
cd /
stop
