# cubby: a key-value store you mount. `make help` lists the targets.
#
# Everything built goes below $(BUILD); a target with flags of its own (asan, cover, ...) calls
# make again with a folder of its own. V=1 prints the commands, WERROR=1 makes warnings errors.

VERSION := 0.1.0
BUILD   ?= build/default
PREFIX  ?= /usr/local
DESTDIR ?=

ifeq ($(origin CC),default)
CC := gcc
endif
CFLAGS   ?= -O2 -g
SANITIZE ?=
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wmissing-prototypes \
            -Wstrict-prototypes -Wwrite-strings -Wvla $(if $(WERROR),-Werror)

# Asked when used, so that building needs no test library, and cleaning none at all.
pkg = $(shell pkg-config $(1) $(2))
STORE_LIBS = $(call pkg,--libs,libxxhash)
FUSE_LIBS  = $(call pkg,--libs,fuse3)
TEST_LIBS  = $(call pkg,--libs,cmocka)

DEFINES := -D_GNU_SOURCE -DCUBBY_VERSION='"$(VERSION)"' -DFUSE_USE_VERSION=314
INCLUDE = -iquote store $(call pkg,--cflags,libxxhash)
FUSE_INCLUDE = $(call pkg,--cflags,fuse3)
TEST_INCLUDE = -iquote fs -iquote tests $(call pkg,--cflags,cmocka) $(FUSE_INCLUDE)

COMPILE = $(CC) -std=gnu17 $(DEFINES) $(CPPFLAGS) $(INCLUDE) $(CFLAGS) $(WARNINGS) $(SANITIZE) \
          -pthread -MMD -MP
LINK    = $(CC) $(CFLAGS) $(SANITIZE) -pthread $(LDFLAGS)

# What users and benches run is optimized as a whole, by gcc; the tests link the same objects' other,
# usual code, each in a moment. LTO= builds without.
LTO ?= $(if $(SANITIZE),,$(if $(filter gcc%,$(notdir $(CC))),-flto=auto -ffat-lto-objects))
LINK_WHOLE = $(LINK) $(LTO)

# ---- what there is ----------------------------------------------------------------------------
STORE_SRC  := $(wildcard store/*.c)
FS_SRC     := $(wildcard fs/*.c)
UNIT_SRC   := $(wildcard tests/unit/test_*.c)
CRASH_SRC  := $(wildcard tests/crash/test_*.c)
MOUNT_SRC  := $(wildcard tests/mount/test_*.c)
FOREIGN_SRC := $(wildcard tests/foreign/*.c)
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz_*.c)
SEEDS_SRC  := tests/fuzz/seeds.c
BENCH_SRC  := $(wildcard tests/bench/*.c)
ENGINES_SRC := $(wildcard tests/bench/engine/*.c)
# What several tests share: any file beside them that is not a test itself.
HELPER_SRC := $(filter-out $(UNIT_SRC) $(CRASH_SRC) $(MOUNT_SRC), \
                $(wildcard $(addprefix tests/,$(addsuffix /*.c,sim unit crash mount))))
SOURCES    := $(STORE_SRC) $(FS_SRC) $(UNIT_SRC) $(CRASH_SRC) $(MOUNT_SRC) $(FOREIGN_SRC) \
              $(BENCH_SRC) $(ENGINES_SRC) $(HELPER_SRC) $(FUZZ_SRC) $(SEEDS_SRC)

object = $(patsubst %.c,$(BUILD)/%.o,$(1))
binary = $(patsubst %.c,$(BUILD)/%,$(1))
CUBBY      := $(BUILD)/cubby
STORE_LIB  := $(BUILD)/libstore.a
FS_LIB     := $(BUILD)/libfs.a
HELPER_LIB := $(BUILD)/libhelpers.a
BENCH      := $(BUILD)/tests/bench/bench
NULLFS     := $(BUILD)/tests/bench/nullfs
BENCH_ENGINE := $(BUILD)/tests/bench/engine/bench

.PHONY: all
all: $(CUBBY)			## build $(BUILD)/cubby

.PHONY: tests
tests: $(call binary,$(UNIT_SRC) $(CRASH_SRC) $(MOUNT_SRC) $(FOREIGN_SRC))	## build the tests, run none

# ---- how it is made ---------------------------------------------------------------------------
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2);)

$(BUILD)/store/%.o: store/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(COMPILE) $(LTO) -c $< -o $@

$(BUILD)/fs/%.o: fs/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(COMPILE) $(LTO) $(FUSE_INCLUDE) -c $< -o $@

$(BUILD)/tests/%.o: tests/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(COMPILE) $(TEST_INCLUDE) -c $< -o $@

$(STORE_LIB):  $(call object,$(STORE_SRC))
$(FS_LIB):     $(call object,$(filter-out fs/main.c,$(FS_SRC)))
$(HELPER_LIB): $(call object,$(HELPER_SRC))
$(STORE_LIB) $(FS_LIB) $(HELPER_LIB):
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $^

$(CUBBY): $(BUILD)/fs/main.o $(FS_LIB) $(STORE_LIB)
	$(call say,LINK,$@)$(LINK_WHOLE) $^ $(FUSE_LIBS) $(STORE_LIBS) -o $@

# The filesystem's units are named test_fs_*; no other test may reach what is in fs/.
$(BUILD)/tests/unit/test_fs_%: $(BUILD)/tests/unit/test_fs_%.o $(HELPER_LIB) $(FS_LIB) $(STORE_LIB)
	$(call say,LINK,$@)$(LINK) $^ $(TEST_LIBS) $(FUSE_LIBS) $(STORE_LIBS) -o $@

$(BENCH): $(call object,$(filter-out %/nullfs.c,$(BENCH_SRC)))
	$(call say,LINK,$@)$(LINK) $^ -o $@

$(NULLFS): $(BUILD)/tests/bench/nullfs.o $(FS_LIB) $(STORE_LIB)
	$(call say,LINK,$@)$(LINK_WHOLE) $^ $(FUSE_LIBS) $(STORE_LIBS) -o $@

# Other engines are measured where their headers are: driver, header, library.
header = $(shell echo '\#include <$(1)>' | $(CC) -E -x c - > /dev/null 2>&1 && echo $(2))
RIVALS = $(call header,lmdb.h,lmdb) $(call header,rocksdb/c.h,rocksdb) \
         $(call header,leveldb/c.h,leveldb) $(call header,sqlite3.h,sqlite) $(call header,db.h,bdb)
RIVAL_LIBS = $(patsubst %,-l%,$(patsubst sqlite,sqlite3,$(patsubst bdb,db,$(RIVALS))))
RIVAL_SRC = $(patsubst %,tests/bench/engine/driver_%.c,lmdb rocksdb leveldb sqlite bdb)
ENGINES_HERE = $(filter-out $(RIVAL_SRC),$(ENGINES_SRC)) \
               $(patsubst %,tests/bench/engine/driver_%.c,$(RIVALS))

$(BENCH_ENGINE): $(call object,$(ENGINES_SRC)) $(STORE_LIB)
	$(call say,LINK,$@)$(LINK_WHOLE) $^ $(RIVAL_LIBS) $(STORE_LIBS) -lm -o $@

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(HELPER_LIB) $(STORE_LIB)
	$(call say,LINK,$@)$(LINK) $^ $(TEST_LIBS) $(STORE_LIBS) -o $@

# libFuzzer brings main.
$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(HELPER_LIB) $(STORE_LIB)
	$(call say,LINK,$@)$(LINK) -fsanitize=fuzzer $^ $(STORE_LIBS) -o $@

# Changes when the flags do, and everything is compiled again.
FLAGS = $(shell $(CC) -dumpversion) $(subst ','\'',$(COMPILE) $(LTO) $(LDFLAGS))
$(BUILD)/flags: always
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS)' | cmp -s - $@ || printf '%s\n' '$(FLAGS)' > $@
.PHONY: always
always:

-include $(patsubst %.o,%.d,$(call object,$(SOURCES)))
.SECONDARY:

# ---- tests ------------------------------------------------------------------------------------
# tests/run gives every program a time limit and ends with the sum of cmocka's closing lines.
CRASH_ENV = TEST_LIMIT=7200 CUTS=$(or $(CUTS),0) $(if $(CUTS),,EVERY=1) $(if $(SEED),SEED=$(SEED))

.PHONY: test
test: $(call binary,$(UNIT_SRC))	## run the unit tests (seconds)
	@tests/run $^

.PHONY: crash
crash: $(call binary,$(CRASH_SRC))	## cut the power at every operation (minutes); SEED= to repeat, CUTS= for fewer
	@$(CRASH_ENV) tests/run $^

.PHONY: mount
mount: $(call binary,$(MOUNT_SRC)) $(CUBBY)	## run the real mounts; KILLS= for more
	@tests/run $(filter-out $(CUBBY),$^)

VERIFY = $(BUILD)/tests/foreign/verify
.PHONY: foreign
foreign: $(VERIFY) $(CUBBY)	## run others' programs on a mount; FOREIGN='git fio', QUICK=1
	@CUBBY=$(abspath $(CUBBY)) VERIFY=$(abspath $(VERIFY)) tests/foreign/run $(FOREIGN)

.PHONY: check-here
check-here: tests $(CUBBY)
	@tests/run $(call binary,$(UNIT_SRC) $(CRASH_SRC) $(MOUNT_SRC))

.PHONY: check
check:				## run everything; warnings are errors
	@$(MAKE) --no-print-directory WERROR=1 BUILD=build/check check-here

SAN_FLAGS = -fno-omit-frame-pointer -O1 -g
.PHONY: asan ubsan tsan
asan: export ASAN_OPTIONS ?= detect_leaks=1:abort_on_error=1
asan:				## run everything under the address sanitizer
	@$(MAKE) --no-print-directory BUILD=build/asan SANITIZE=-fsanitize=address \
	         CFLAGS='$(SAN_FLAGS)' check-here

ubsan: export UBSAN_OPTIONS ?= print_stacktrace=1
ubsan:				## run everything under the undefined-behaviour sanitizer
	@$(MAKE) --no-print-directory BUILD=build/ubsan \
	         SANITIZE='-fsanitize=undefined -fno-sanitize-recover=all' \
	         CFLAGS='$(SAN_FLAGS)' check-here

# What passes through a file puts nobody in order.
tsan: export TSAN_OPTIONS ?= halt_on_error=1:second_deadlock_stack=1:io_sync=0
tsan:				## run unit and crash tests under the thread sanitizer
	@$(MAKE) --no-print-directory BUILD=build/tsan SANITIZE=-fsanitize=thread \
	         CFLAGS='$(SAN_FLAGS)' test crash

# Each decoder is given whatever libFuzzer thinks of.
.PHONY: fuzz fuzz-here
fuzz:				## let each fuzz target run for FUZZ_SECONDS= (60)
	@$(MAKE) --no-print-directory CC=clang BUILD=build/fuzz CFLAGS='$(SAN_FLAGS)' \
	         SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' \
	         fuzz-here

.PHONY: fuzz-seeds
fuzz-seeds: $(BUILD)/tests/fuzz/seeds	## write what the fuzz targets begin with anew
	@rm -rf tests/fuzz/corpus && mkdir tests/fuzz/corpus
	$< tests/fuzz/corpus

fuzz-here: $(call binary,$(FUZZ_SRC))
	@tests/fuzz/run $^

# ---- reading and measuring ----------------------------------------------------------------------
.PHONY: tsa
tsa:				## let clang check who holds which lock
	$(if $(V),,@)for f in $(STORE_SRC) $(FS_SRC); do \
		clang -fsyntax-only -Wthread-safety -Werror -std=gnu17 $(DEFINES) $(INCLUDE) \
		      $(FUSE_INCLUDE) $$f || exit 1; \
	done

.PHONY: tidy
tidy:				## run clang-tidy over all sources
	$(if $(V),,@)clang-tidy --quiet $(STORE_SRC) $(FS_SRC) $(HELPER_SRC) -- -std=gnu17 $(DEFINES) \
		$(INCLUDE) $(TEST_INCLUDE)

.PHONY: fmt
fmt:				## format the files changed since the last commit, or FILES=
	$(if $(V),,@)clang-format -i $(or $(FILES),$(shell git diff --name-only HEAD -- '*.c' '*.h'))

.PHONY: cover
cover:				## run unit and crash tests and say how much of each file they reach
	@$(MAKE) --no-print-directory BUILD=build/cover SANITIZE=--coverage CFLAGS='-O0 -g' test crash
	@scripts/cover build/cover

.PHONY: arrows
arrows:				## print which module includes which
	@scripts/arrows store fs

.PHONY: bench
bench: $(CUBBY) $(BENCH) $(NULLFS) ## measure the mount beside others (minutes); BENCH_QUICK=1
	@CUBBY=$(abspath $(CUBBY)) BENCH=$(abspath $(BENCH)) NULLFS=$(abspath $(NULLFS)) \
	 tests/bench/run

.PHONY: bench-engine
bench-engine:			## measure the engine beside others (half an hour); BENCH_QUICK=1
	@$(MAKE) --no-print-directory ENGINES_SRC='$(ENGINES_HERE)' $(BENCH_ENGINE)
	@BENCH=$(abspath $(BENCH_ENGINE)) tests/bench/engine/run

# ---- installing -------------------------------------------------------------------------------
# mount(8) looks for its helpers in /sbin only, which is /usr/sbin today. When we install to
# /usr/local, as is the default, a link there finds us.
BIN  = $(DESTDIR)$(PREFIX)/bin
SBIN = $(DESTDIR)$(PREFIX)/sbin
MAN  = $(DESTDIR)$(PREFIX)/share/man
DOC  = $(DESTDIR)$(PREFIX)/share/doc/cubby
DOCS = README.md LICENSE $(wildcard store/*.md fs/*.md)
HELPER_LINK = $(if $(filter /usr/local,$(PREFIX)),$(DESTDIR)/sbin/mount.cubby)

.PHONY: install
install: $(CUBBY)		## install to $(DESTDIR)$(PREFIX)
	install -D -m 755 $(CUBBY) $(BIN)/cubby
	install -d $(SBIN)
	ln -sfn ../bin/cubby $(SBIN)/mount.cubby
	$(if $(HELPER_LINK),install -d $(dir $(HELPER_LINK)))
	$(if $(HELPER_LINK),ln -sfn $(PREFIX)/bin/cubby $(HELPER_LINK))
	install -D -m 644 fs/cubby.1 $(MAN)/man1/cubby.1
	install -D -m 644 fs/mount.cubby.8 $(MAN)/man8/mount.cubby.8
	install -d $(DOC)
	for f in $(DOCS); do install -m 644 $$f $(DOC)/$$(echo $$f | tr / -) || exit 1; done

.PHONY: uninstall
uninstall:			## remove what install put there; stores are left alone
	rm -f $(BIN)/cubby $(SBIN)/mount.cubby $(HELPER_LINK)
	rm -f $(MAN)/man1/cubby.1 $(MAN)/man8/mount.cubby.8
	rm -rf $(DOC)

.PHONY: clean
clean:				## remove everything built
	rm -rf build

.PHONY: help
help:				## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 18
